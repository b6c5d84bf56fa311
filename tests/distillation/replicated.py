"""Steps on two devices, in a process of its own: devices are made before the first operation.

`python replicated.py compare dml:12 okddip:13` prints how methods, on batches of so many images,
differ from what they do on one device, `python replicated.py apart` what happens if the devices do
not see the same.
"""

import json
import random
import sys
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tiny_networks

from tf_cutnmix import CropAndFlip, CutNMix, OnlineDistiller, share_stages
from tf_cutnmix.distillation import Method, synchronise
from tf_cutnmix.networks.blocks import BatchNormalization

# Of each method its peers, and whether they share stages.
METHODS = {
    **{"cutnmix": (2, False), "dml": (2, False), "okddip": (3, False)},
    **{"pcl": (2, True), "dlb": (1, False), "ffl": (2, True), "one": (2, True)},
    **{"mcl": (2, False), "afd": (2, False), "kdcl": (2, False), "kdcl_linear": (2, False)},
}
STEPS = 10


def trained(
    name: str, strategy: tf.distribute.Strategy | None, batch: int = 12, steps: int = STEPS
) -> tuple[OnlineDistiller, dict[str, float]]:
    """A model after some steps on random images, and its losses.

    A third of the images has no label, where the method takes such images.
    """
    random.seed(0)
    count, shares = METHODS[name]
    peers = [tiny_networks.smooth() for _ in range(count)]
    peers = share_stages(peers, "stage1") if shares else peers
    synchronise(peers)
    unlabelled = Method(name).recipe.takes_unlabelled
    model = OnlineDistiller(
        peers,
        CutNMix(num_peers=count, num_classes=10, seed=3),
        Method(name, batch_size=batch, ramp_steps=5, unlabelled=unlabelled),
        augment=CropAndFlip(crop=0.125, flip=True, seed=4),
        weight_decay=5e-4,
        strategy=strategy,
    )
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9, global_clipnorm=5.0))
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (steps * batch, 8, 8, 3), np.uint8)
    labels = np.eye(10, dtype="float32")[generator.integers(0, 10, steps * batch)]
    labels[::3] *= not unlabelled
    history = model.fit(images, labels, batch_size=batch, shuffle=False, verbose=0).history
    return model, {key: values[0] for key, values in history.items()}


def difference(some: Sequence[Any], others: Sequence[Any]) -> float:
    """The largest of two models' numbers, as part of 1 or of what is larger."""
    pairs = zip(some, others, strict=True)
    arrays = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs]
    return max(float(np.max(np.abs(a - b) / np.maximum(1, np.abs(a)))) for a, b in arrays)


def compare(strategy: tf.distribute.Strategy, pairs: list[str]) -> None:
    for pair in pairs:
        name, batch = pair.split(":")
        (alone, losses), (both, shared) = (trained(name, s, int(batch)) for s in (None, strategy))
        of_losses = max(abs(losses[key] - shared[key]) for key in losses)
        states = [[*m.variables, *m.optimizer.variables] for m in (alone, both)]
        found = {"of": pair, "losses": of_losses, "variables": difference(*states)}
        print(json.dumps(found), flush=True)


def normalising_first(layer: keras.layers.Layer) -> keras.Model:
    """A peer that normalises its images, whose statistics are then the layer's."""
    images = keras.Input((4, 4, 1))
    features = keras.layers.GlobalMaxPooling2D()(layer(images))
    logits = keras.layers.Dense(2)(features)
    return keras.Model(images, {"features": features, "logits": logits})


def apart(strategy: tf.distribute.Strategy) -> None:
    """Statistics of devices that see unlike images, and a step that is broken on one of them."""
    batch = np.random.default_rng(0).normal(size=(8, 4, 4, 1)).astype(np.float32)
    batch[4:] += 2
    labels = np.arange(8) % 2
    layers = {
        "of_parts": keras.layers.BatchNormalization(momentum=0.9),
        "of_all": keras.layers.BatchNormalization(momentum=0.9, synchronized=True),
        "of_all_by_ours": BatchNormalization(momentum=0.9, synchronized=True),
    }
    model = OnlineDistiller(
        [normalising_first(layer) for layer in layers.values()], method="dml", strategy=strategy
    )
    model.compile(keras.optimizers.SGD(0.01))
    model.train_on_batch(batch, labels)
    of = {name: float(layer.moving_variance.numpy()[0]) for name, layer in layers.items()}
    halves = np.mean([batch[:4].var(), batch[4:].var()])
    expected = {"of_parts": 0.9 + 0.1 * halves, "of_all": 0.9 + 0.1 * batch.var()}
    expected = {name: float(value) for name, value in expected.items()}

    before = [np.asarray(v) for v in model.variables]
    batch[7] = np.inf
    model.train_step((tf.constant(batch), tf.constant(labels)))
    pairs = zip(model.variables, before, strict=True)
    changed = [v.path for v, old in pairs if not np.array_equal(v, old)]
    said = (model.failed_step, model.failed_term, *model.metrics_variables)
    may_change = [variable.path for variable in said]
    found = {
        **{"variances": of, "expected": expected},
        "failed_step": int(model.failed_step.numpy()),
        "changed": [path for path in changed if path not in may_change],
    }
    print(json.dumps(found), flush=True)


def main(what: str, *names: str) -> None:
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    if what == "compare":
        compare(strategy, list(names))
    else:
        apart(strategy)


if __name__ == "__main__":
    main(*sys.argv[1:])
