"""What the user of a run may want to know before it begins."""

import tensorflow as tf

from tf_cutnmix.data import Images
from tf_cutnmix.distillation import OnlineDistiller
from tf_cutnmix.networks.build import KERAS_NAMES
from tf_cutnmix.runs import cost, outlook, scores
from tf_cutnmix.runs.build import steps_per_epoch
from tf_cutnmix.runs.config import Config
from tf_cutnmix.runs.loading import batch_size
from tf_cutnmix.runs.splits import Splits

_SHORT_RUN = 500


def before(config: Config, model: OnlineDistiller, splits: Splits) -> str:
    """What is known of a run before it begins: a block of lines."""
    size = splits.train.pixels.shape[1:3]
    pixels = [tf.TensorSpec([1, *splits.train.pixels.shape[1:]], tf.uint8)]
    counts = splits.counts()
    per_epoch = steps_per_epoch(splits.train, config)
    facts = outlook.data(config.dataset, size, splits.train.class_names, counts)
    for name in dict.fromkeys(config.architectures):
        peer = config.architectures.index(name)
        facts[f"{config.architectures.count(name)} x {name}"] = (
            f"{cost.parameters(model)[f'peer{peer + 1}']:,} parameters, "
            f"{cost.flops(model.peers[peer], pixels) / 1e6:,.1f} MFLOPs an image, each"
        )
    facts["steps"] = (
        f"{config.epochs} epochs of {per_epoch} steps of {batch_size(config, splits.train)} images "
        f"(--batch_size): {config.epochs * per_epoch:,}"
    )
    return outlook.block(facts)


def hints(config: Config, model: OnlineDistiller, train: Images) -> list[str]:
    """What the user of a run on these images may want to know before it begins."""
    lines = []
    images, size = len(train.labels), batch_size(config, train)
    steps = images // size * config.epochs
    if steps < _SHORT_RUN:
        memory = f"the teacher remembers {1 / (1 - model.momentum):.0f} (--teacher_memory)"
        ramp = f", distillation grows over {model.method.ramp_steps} (--ramp)"
        ramped = any(term.ramped for term in model.terms) and not model.method.fit
        smaller = next((b for b in (64, 32, 16) if images // b * config.epochs >= _SHORT_RUN), 8)
        more = f"; --batch_size={smaller} would give {images // smaller * config.epochs}"
        told = f"{memory}{ramp if ramped else ''}{more if smaller < size else ''}"
        lines.append(f"short run: {steps} steps; {told}")
    if config.balance == "none" and scores.unbalanced(train.counts.tolist()):
        lines.append("classes of unlike size: --balance=weights or sampling makes them count alike")
    for name in sorted(set(config.architectures)):
        if f"keras_{name}" in KERAS_NAMES:
            lines.append(
                f"{name} is the network for small images: keras_{name} is that of ImageNet"
            )
    if config.precision == "float32" and cost.multiplies_in_bfloat16():
        lines.append(
            "this processor multiplies in bfloat16: --precision=mixed_bfloat16 may be faster"
        )
    return lines
