"""Every flag of a training run: its default, its help text, the check of its value alone.

Names that other modules own (architectures, methods, mixings, data sets) are checked there.
"""

import dataclasses
from typing import Any

from tf_cutnmix.runs import names
from tf_cutnmix.settings import (
    AT_LEAST_1,
    BELOW_1,
    COUNT,
    EPOCHS,
    FRACTION,
    NOT_NEGATIVE,
    PEERS,
    PIXELS,
    POSITIVE,
    RAMP,
    SEED,
    setting,
)


def _option(text: str, *choices: str) -> Any:
    """A choice that a method has a default of its own for."""
    text = f"{text}; auto: the method's own"
    return setting("auto", "distillation", text, choices=("auto", *choices))


@dataclasses.dataclass(frozen=True)
class Flags:
    """The flags of `python -m tf_cutnmix.train`, in the order of its help."""

    dataset: str = setting(
        "digits",
        "data",
        "'digits' (scikit-learn's, no download), a TFDS name such as 'cifar10', or a folder: "
        "class sub-folders with images, or train/ and test/ (and validation/) that hold such "
        "sub-folders",
    )
    data_dir: str = setting("", "data", "where TFDS keeps its data (TFDS's own default if empty)")
    cache_dir: str = setting(
        "", "data", "folder where images, once read, lie ready for later runs and all workers"
    )
    train_split: str = setting("train", "data", "split to train on, in TFDS syntax: 'train[:2000]'")
    test_split: str = setting("test", "data", "split to report the final figures on")
    validation_split: str = setting(
        "auto",
        "data",
        "split to choose the best epoch on; auto: the folder's own validation/ if there is one, "
        "else a part of the training split",
    )
    validation_fraction: float = setting(
        0.1,
        "data",
        "part of the training split that is held out to choose the best epoch on, where no split "
        "is there for it; 0: none, the last epoch counts",
        rule=BELOW_1,
    )
    hold_out: str = setting(
        "by_class",
        "data",
        "how that part is drawn: by_class, with equal images on one side, or at_random, as runs "
        "were before there was this flag",
        choices=("by_class", "at_random"),
    )
    validation_every: int = setting(
        1,
        "data",
        "epochs from one look at the held-out images to the next; more where epochs are short",
        rule=COUNT,
    )
    train_images: int = setting(
        0,
        "data",
        "train on so many of the training images that are not held out, drawn by --seed from each "
        "class in proportion; 0: on all",
        rule=NOT_NEGATIVE,
    )
    image_size: int = setting(
        0, "data", "resize images to this many pixels a side; 0: as stored", rule=PIXELS
    )
    crop: float = setting(
        0.125,
        "data",
        "random crops after padding each side by this part of it (4 pixels of 32); 0: none",
        rule=BELOW_1,
    )
    flip: str = setting(
        "auto",
        "data",
        "random mirror images; auto: not for characters (digits, mnist, svhn_cropped, ...)",
        choices=("auto", "on", "off"),
    )
    augment: str = setting(
        "none",
        "data",
        "what else is done to images after crops and mirror images",
        choices=("none", "augmix", "gridmask", "randaugment"),
    )
    balance: str = setting(
        "none",
        "data",
        "what is done about classes of unlike size; weights: their cross-entropy counts as if "
        "they were equal; sampling: an epoch shows each equally often",
        choices=("none", "weights", "sampling"),
    )
    arch: str = setting(
        "resnet8",
        "model",
        "network of each peer, such as resnet56, resnet32_projection, wrn16_2, vgg16, "
        "densenet_bc40_12, mobilenet_v2, shufflenet_v2_x1; keras_ and a name of "
        "keras.applications; module:function for a function of yours; a comma list for unlike "
        "peers",
    )
    num_peers: int | None = setting(
        None,
        "model",
        "networks trained together; by default 2, or as many as --arch names",
        rule=PEERS,
    )
    weights_from: str = setting(
        "none",
        "model",
        "what the networks start from: none; imagenet, which Keras downloads for keras_ networks; "
        "a .weights.h5 or .keras file, an export, or the folder of a run that exported its teacher",
    )
    freeze: str = setting(
        "none",
        "model",
        "what stays as it is: the backbone, all but the classifier, or batchnorm's layers",
        choices=("none", "backbone", "batchnorm"),
    )
    share: str = setting(
        "auto",
        "model",
        "what peers have in common: none, stem, or all up to stage1, stage2, ...; auto: as the "
        "method's paper has it",
    )
    mix: str = setting(
        "cutnmix", "mixing", "how samples are mixed: cutnmix, cutmix, mixup, fmix or none"
    )
    alpha: float = setting(1.0, "mixing", "ratios are drawn from Beta(alpha, alpha)", rule=POSITIVE)
    mix_probability: float = setting(
        1.0, "mixing", "probability of each sample to be mixed", rule=FRACTION
    )
    mix_until: float = setting(
        1.0, "mixing", "part of the run, from its start, that mixes samples", rule=FRACTION
    )
    ratio_per: str = setting(
        "sample", "mixing", "one ratio per sample or per batch", choices=("sample", "batch")
    )
    regions: str = setting(
        "uniform",
        "mixing",
        "where the peers' boxes lie: uniform, or spread (they overlap less)",
        choices=("uniform", "spread"),
    )
    views: str = setting(
        "auto",
        "mixing",
        "own: each peer has crops and mirror images of its own; auto: as the method's paper has it",
        choices=("auto", "shared", "own"),
    )
    method: str = setting(
        "cutnmix",
        "distillation",
        f"how peers learn from each other: {', '.join(names.METHODS)}; independent: not at all",
    )
    weights: str = setting(
        "",
        "distillation",
        "of the terms that the method adds to the cross-entropy, in place of its own weights: "
        "teacher=0.5,feature=0",
    )
    temperature: float | None = setting(
        None,
        "distillation",
        "softens predictions that are imitated; by default the method's own",
        rule=POSITIVE,
    )
    ensemble_members: str = _option(
        "whose ensemble teaches a peer: all peers', or the others'", "all", "others"
    )
    ensemble_from: str = _option(
        "what that ensemble is made of: the averaged peers, or the peers as they are",
        "averages",
        "peers",
    )
    ensemble_view: str = _option(
        "what that ensemble sees: mixed images, or clean ones, its answers then mixed",
        "mixed",
        "clean",
    )
    standardise_logits: str = _option(
        "scale logits to mean 0 and deviation 1 before they are compared", "on", "off"
    )
    pull_every: int = setting(
        0,
        "distillation",
        "draw the peers to their mean after every so many steps, and score the network of their "
        "mean weights, soup; 0: never",
        rule=NOT_NEGATIVE,
    )
    teacher: str = setting(
        "",
        "distillation",
        "what --method=kd learns from: an export, a run that exported one, or a comma "
        "list of them, whose ensemble teaches",
    )
    classes_by_position: bool = setting(
        False,
        "distillation",
        "take the classes of --teacher in their order, whatever they are called",
    )
    ramp: float | str | None = setting(
        None,
        "distillation",
        "part of the run in which distillation grows to its weight, by default the method's own; "
        "or fit: it counts the more, the better the peers fit their mixed labels",
        rule=RAMP,
    )
    teacher_memory: float = setting(
        0.01,
        "distillation",
        "part of the run's steps that the teacher's moving average remembers",
        rule=FRACTION,
    )
    epochs: int = setting(300, "optimisation", "passes over the training data", rule=COUNT)
    batch_size: int | None = setting(
        None,
        "optimisation",
        "images per step; by default 128, or the largest power of two that is no more than an "
        "eighth of the training images, 8 at least",
        rule=AT_LEAST_1,
    )
    learning_rate: float = setting(
        0.1, "optimisation", "of SGD with Nesterov momentum", rule=POSITIVE
    )
    learning_rate_backbone: float | None = setting(
        None,
        "optimisation",
        "for all below the classifiers; by default --learning_rate, whose schedule it follows",
        rule=POSITIVE,
    )
    schedule: str = setting(
        "step",
        "optimisation",
        "step: a tenth after 1/2 and again after 3/4 of the epochs; cosine: down to 0; constant",
        choices=("step", "cosine", "constant"),
    )
    momentum: float = setting(0.9, "optimisation", "of SGD", rule=BELOW_1)
    weight_decay: float = setting(
        5e-4,
        "optimisation",
        "weight_decay / 2 * |w|^2 over all trained weights is added to the loss",
        rule=NOT_NEGATIVE,
    )
    seed: int = setting(0, "run", "same seed, same machine: same result, to the bit", rule=SEED)
    precision: str = setting(
        "float32",
        "run",
        "of the arithmetic; weights stay float32",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
    )
    threads: int = setting(
        0,
        "run",
        "threads of the arithmetic, on which the last bits depend; 0: as TensorFlow is set up, "
        "one for each core",
        rule=NOT_NEGATIVE,
    )
    jit: str = setting(
        "auto", "run", "compile the step with XLA; auto: on one GPU", choices=("auto", "on", "off")
    )
    distribute: str = setting(
        "none",
        "run",
        "devices that share a batch: all here, or those of the processes in TF_CONFIG or SLURM",
        choices=("none", "mirrored", "multi_worker"),
    )
    batch_norm: str = setting(
        "sync",
        "run",
        "what BatchNormalization sees of a batch that devices share: all, or its replica's rows",
        choices=("sync", "replica"),
    )
    workdir: str = setting("", "run", "folder of the run; by default runs/<its settings>")
    export_dir: str = setting("savedmodels", "run", "exports go to <export_dir>/<name>/<version>/")
    export: str = setting(
        "teacher,peer",
        "run",
        "what to export, a comma list of teacher, peer (the best one), ensemble and, with "
        "--pull_every, soup (one of their mean weights); '' for nothing",
    )
    max_pixels: int = setting(
        64_000_000, "run", "exports decode no picture files with more pixels", rule=AT_LEAST_1
    )
    export_format: str = setting(
        "savedmodel",
        "run",
        f"a comma list of {', '.join(names.FORMATS)}; the SavedModel is always there",
    )
    steps: int = setting(
        0, "run", "stop after so many training steps, for trying; 0: no limit", rule=NOT_NEGATIVE
    )
    save_minutes: float = setting(
        10.0, "run", "minutes between checkpoints within an epoch; 0: none", rule=NOT_NEGATIVE
    )
    restarts: str = setting(
        "", "run", "epochs after which --resume made the run longer; it sets them", rule=EPOCHS
    )
    resume: bool = setting(
        False, "run", "go on with the run in workdir, if any; to more --epochs if it is finished"
    )
    new_images: bool = setting(
        False, "run", "go on, with --resume, on other images than the run was begun on"
    )
    overwrite: bool = setting(False, "run", "replace the run in workdir")
