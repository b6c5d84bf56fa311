"""Every setting of a training run: its default, help, check and role; and all of them together.

Names that other modules own (architectures, methods, mixings, data sets) are checked there.
"""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from tf_cutnmix.errors import InputError, unknown
from tf_cutnmix.settings import (
    AT_LEAST_1,
    BELOW_1,
    COUNT,
    EPOCHS,
    FOLD,
    FRACTION,
    NOT_NEGATIVE,
    PEERS,
    PIXELS,
    POSITIVE,
    SEED,
    Role,
    Rule,
    check,
    from_text,
    names_of,
    setting,
    split_names,
)

# Named here for `--help`, which does not wait for TensorFlow: the keys of
# `distillation.methods.METHODS`, of `distillation.ramp.FITS` and of `serving.formats.FORMATS`.
METHODS = (
    *("afd", "cl_ilr", "cutnmix", "dlb", "dml", "ffl", "independent", "kd"),
    *("kdcl", "kdcl_naive", "kdcl_linear", "kdcl_general"),
    *("mcl", "okddip", "one", "pcl"),
)
FITS = ("fit", "fit_steep", "fit_nats", "fit_first")
FORMATS = ("savedmodel", "litert", "litert_int8", "onnx", "openvino")
EXPORTS = ("teacher", "peer", "ensemble")
# Settings that there were, with the default that they had.
RETIRED = {"hold_out": "by_class", "standardise_logits": "auto", "pull_every": "0"}
_RATIOS = ("alpha", "ratio_per", "mix_probability", "mix_until")
_TEACHING = ("ensemble_members", "ensemble_from", "ensemble_view")
_BETWEEN_PEERS = ("feature", "mutual")
_RAMP = Rule(
    lambda value: value in FITS or (not isinstance(value, str) and FRACTION.holds(value)),
    "from 0 to 1, or fit",
)


# Defaults where networks learn from scratch, and where they start from weights.
_BY_START: dict[str, tuple[Any, Any]] = {
    "optimizer": ("sgd", "adamw"),
    "epochs": (300, 30),
    "schedule": ("step", "cosine"),
    "warmup": (0.0, 0.1),
    "clip_norm": (0.0, 1.0),
    "freeze": ("none", "batchnorm"),
}
# Likewise, of each optimizer.
_BY_OPTIMIZER: dict[str, dict[str, tuple[Any, Any]]] = {
    "sgd": {
        "learning_rate": (0.1, 0.02),
        "learning_rate_backbone": (None, 5e-4),
        "momentum": (0.9, 0.9),
        "weight_decay": (5e-4, 5e-4),
    },
    "adamw": {
        "learning_rate": (1e-3, 1e-3),
        "learning_rate_backbone": (None, 3e-4),
        "momentum": (None, None),
        "weight_decay": (0.05, 0.05),
    },
}


def _by_start(name: str, text: str, *, group: str = "optimisation", **details: Any) -> Any:
    """A setting of `_BY_START`."""
    scratch, weights = _BY_START[name]
    text = f"{text} (default: {scratch}; from weights {weights})"
    return setting(None, group, text, **details)


def _by_optimizer(name: str, text: str, **details: Any) -> Any:
    """A setting of `_BY_OPTIMIZER`."""
    shown = []
    for optimizer, values in _BY_OPTIMIZER.items():
        scratch, weights = values[name]
        own = "" if optimizer == "sgd" else f" with {optimizer}"
        if scratch is not None:
            shown.append(f"{scratch}{own}")
        if weights not in (None, scratch):
            shown.append(f"{weights}{own} from weights")
    return setting(None, "optimisation", f"{text} (default: {', '.join(shown)})", **details)


def _option(text: str, *choices: str) -> Any:
    """A choice that a method has a default of its own for."""
    text = f"{text}; auto: the method's own"
    return setting("auto", "distillation", text, choices=("auto", *choices))


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of one training run, in the order of `--help`.

    What is None, though its type names none, is left to `with_defaults`.

    Raises:
      InputError: a setting is outside its range, or two settings contradict each other.
    """

    dataset: str = setting(
        "digits",
        "data",
        "'digits' (scikit-learn's, no download), a TFDS name such as 'cifar10', a folder: "
        "class sub-folders with images, or train/ and test/ (and validation/) that hold such "
        "sub-folders; or a CSV file with the columns path and label, and split if you like",
    )
    data_dir: str = setting(
        "", "data", "where TFDS keeps its data (TFDS's own default if empty)", role=Role.PLACE
    )
    cache_dir: str = setting(
        "",
        "data",
        "folder where images, once read, lie ready for later runs and all workers",
        role=Role.PLACE,
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
    unlabelled: str = setting(
        "",
        "data",
        "images without labels to train on as well: a folder of pictures, in sub-folders or not, "
        "or a split of --dataset, whose labels are not looked at: 'train[1000:]'",
    )
    unlabelled_ratio: int = setting(
        3, "data", "unlabelled images for each labelled one of a step", rule=COUNT
    )
    fold: str = setting(
        "",
        "data",
        "test on one of several parts of the images, such as 2/5, and train on the others: the "
        "images of --train_split and --test_split, drawn by --seed, each class in proportion",
        rule=FOLD,
    )
    image_size: int | str = setting(
        0,
        "data",
        "resize images to this many pixels a side, or to width x height, such as 96x64; 0: as "
        "stored",
        rule=PIXELS,
    )
    resize: str = setting(
        "squash",
        "data",
        "how images of another shape get this size; crop: the short side gets it, and what is "
        "beyond on the long one is cut off; pad: the long side gets it, with black beside it; "
        "exports do the same",
        choices=("squash", "crop", "pad"),
    )
    crop: float | None = setting(
        None,
        "data",
        "random crops after padding each side by this part of it; by default 0.125, 4 pixels of "
        "32, of images that are smaller than 65 pixels or show characters; 0: none",
        rule=BELOW_1,
    )
    flip: str = setting(
        "auto",
        "data",
        "random mirror images; auto: not for characters (digits, mnist, svhn_cropped, ...)",
        choices=("auto", "on", "off"),
    )
    augment: str | None = setting(
        None,
        "data",
        "what else is done to images after crops and mirror images; photo: random resized crops in "
        "place of padded ones, the default where --crop is open and has none",
        choices=("none", "photo", "augmix", "gridmask", "randaugment"),
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
        "own, which the function that --arch names brings along; a .keras, .weights.h5, .h5, "
        ".safetensors or .pth file, an export, or the folder of a run that exported its teacher",
    )
    freeze: str = _by_start(
        "freeze",
        "what stays as it is: the backbone, all but the classifier, or batchnorm's layers; with "
        "both BatchNormalization normalises by the statistics that it came with, not by the batch",
        group="model",
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
        f"how peers learn from each other: {', '.join(METHODS)}; independent: not at all",
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
        "what that ensemble sees: mixed images, or clean ones, its answers then mixed; with "
        "--unlabelled clean ones",
        "mixed",
        "clean",
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
        rule=_RAMP,
    )
    teacher_memory: float = setting(
        0.01,
        "distillation",
        "part of the run's steps that the teacher's moving average remembers",
        rule=FRACTION,
    )
    epochs: int = _by_start("epochs", "passes over the training data", rule=COUNT)
    patience: int = setting(
        0,
        "optimisation",
        "end after so many epochs without a better accuracy of the teacher on the validation "
        "split, as Keras' EarlyStopping; 0: never",
        rule=NOT_NEGATIVE,
    )
    batch_size: int | None = setting(
        None,
        "optimisation",
        "images per step; by default 128, or the largest power of two that is no more than an "
        "eighth of the training images, 8 at least",
        rule=AT_LEAST_1,
    )
    optimizer: str = _by_start("optimizer", "sgd has Nesterov momentum", choices=("sgd", "adamw"))
    learning_rate: float = _by_optimizer(
        "learning_rate", "of the optimizer, before its schedule", rule=POSITIVE
    )
    learning_rate_backbone: float | None = _by_optimizer(
        "learning_rate_backbone",
        "for all below the classifiers, on the same schedule; from scratch as --learning_rate",
        rule=POSITIVE,
    )
    schedule: str = _by_start(
        "schedule",
        "step: a tenth after 1/2 and again after 3/4 of the epochs; cosine: down to 0; constant",
        choices=("step", "cosine", "constant"),
    )
    warmup: float = _by_start(
        "warmup",
        "part of the run over which the learning rate rises to its schedule, evenly",
        rule=FRACTION,
    )
    clip_norm: float = _by_start(
        "clip_norm",
        "the gradient, of all weights together, is made no longer than this; 0: left as it is",
        rule=NOT_NEGATIVE,
    )
    momentum: float = _by_optimizer("momentum", "of SGD", rule=BELOW_1)
    weight_decay: float = _by_optimizer(
        "weight_decay",
        "with sgd, weight_decay / 2 * |w|^2 over all trained weights is added to the loss; with "
        "adamw, a step takes learning rate * weight_decay off kernels and matrices",
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
        role=Role.BITS,
    )
    jit: str = setting(
        "auto",
        "run",
        "compile the step with XLA; auto: on one GPU",
        choices=("auto", "on", "off"),
        role=Role.BITS,
    )
    distribute: str = setting(
        "none",
        "run",
        "devices that share a batch: all here, or those of the processes in TF_CONFIG or SLURM",
        choices=("none", "mirrored", "multi_worker"),
        role=Role.MADE,
    )
    batch_norm: str = setting(
        "sync",
        "run",
        "what BatchNormalization sees of a batch that devices share: all, or its replica's rows",
        choices=("sync", "replica"),
    )
    workdir: str = setting(
        "", "run", "folder of the run; by default runs/<its settings>", role=Role.PLACE
    )
    export_dir: str = setting(
        "savedmodels", "run", "exports go to <export_dir>/<name>/<version>/", role=Role.PLACE
    )
    export: str = setting(
        "teacher,peer",
        "run",
        "what to export, a comma list of teacher, peer (the best one), ensemble; '' for nothing",
        role=Role.MADE,
    )
    calibrate: str = setting(
        "auto",
        "run",
        "fit the probabilities of exports to the validation images by a temperature, and find from "
        "which confidence on 95 % of the predictions are right; auto: where there are 100 images, "
        "with fewer a single one would decide that",
        choices=("auto", "on", "off"),
        role=Role.MADE,
    )
    max_pixels: int = setting(
        64_000_000,
        "run",
        "exports decode no picture files with more pixels",
        rule=AT_LEAST_1,
        role=Role.MADE,
    )
    export_format: str = setting(
        "savedmodel",
        "run",
        f"a comma list of {', '.join(FORMATS)}; the SavedModel is always there",
        role=Role.MADE,
    )
    steps: int = setting(
        0,
        "run",
        "stop after so many training steps, for trying; 0: no limit",
        rule=NOT_NEGATIVE,
        role=Role.MADE,
    )
    save_minutes: float = setting(
        10.0,
        "run",
        "minutes between checkpoints within an epoch; 0: none",
        rule=NOT_NEGATIVE,
        role=Role.KEPT,
    )
    restarts: str = setting(
        "",
        "run",
        "epochs after which --resume made the run longer; it sets them",
        rule=EPOCHS,
        role=Role.KEPT,
    )
    resume: bool = setting(
        False,
        "run",
        "go on with the run in workdir, if any; to more --epochs if it is finished",
        role=Role.EARLIER_RUN,
    )
    new_images: bool = setting(
        False,
        "run",
        "go on, with --resume, on other images than the run was begun on",
        role=Role.EARLIER_RUN,
    )
    overwrite: bool = setting(False, "run", "replace the run in workdir", role=Role.EARLIER_RUN)

    def __post_init__(self) -> None:
        check(self)
        if not self.architectures:
            raise InputError("--arch is empty: name a network such as resnet8")
        if len(self.architectures) > 1 and self.num_peers not in (None, len(self.architectures)):
            raise InputError(
                f"--arch names {len(self.architectures)} networks and --num_peers is "
                f"{self.num_peers}: leave --num_peers out, or name one network"
            )
        for name, weight in self.term_weights.items():
            if not NOT_NEGATIVE.holds(weight):
                raise InputError(f"--weights: {name}={weight} must be {NOT_NEGATIVE.words}")
        for name in self.exports:
            if name not in EXPORTS:
                raise unknown("--export", name, EXPORTS)
        if self.freeze == "backbone" and not self.fine_tunes:
            raise InputError(
                "--freeze=backbone keeps what is below the classifiers: pass --weights_from"
            )
        if [0, *self.stretches] != sorted({0, *self.stretches}):
            raise InputError(f"--restarts={self.restarts}: must rise, below --epochs={self.epochs}")
        chosen_formats(self.export_format)
        if self.resume and self.overwrite:
            raise InputError("--resume and --overwrite contradict each other: pass one of them")

    @property
    def architectures(self) -> tuple[str, ...]:
        """One architecture's name for each peer."""
        names = split_names(self.arch)
        return names if len(names) != 1 else names * (self.num_peers or 2)

    @property
    def fine_tunes(self) -> bool:
        """Whether the networks start from weights that were trained before."""
        return self.weights_from != "none"

    @property
    def term_weights(self) -> dict[str, float]:
        """`weights` by the name of the term."""
        pairs = [part.partition("=") for part in split_names(self.weights)]
        try:
            return {name.strip(): float(value) for name, _, value in pairs}
        except ValueError:
            raise InputError(
                f"--weights={self.weights}: write it as term=number,term=number"
            ) from None

    @property
    def method_options(self) -> dict[str, str]:
        """What is chosen of the method's options; what is left to the method is left out."""
        names = ("ensemble_members", "ensemble_from", "ensemble_view")
        chosen = {name: getattr(self, name) for name in names}
        return {name: choice for name, choice in chosen.items() if choice != "auto"}

    @property
    def fit(self) -> str:
        """By which fit the method's terms are weighed; "" for the clock."""
        return self.ramp if isinstance(self.ramp, str) else ""

    @property
    def ramp_part(self) -> float | None:
        """The part of the run over which the method's terms grow; None for the method's own."""
        return None if isinstance(self.ramp, str) else self.ramp

    @property
    def exports(self) -> tuple[str, ...]:
        return split_names(self.export)

    @property
    def stretches(self) -> tuple[int, ...]:
        """The epochs after which a schedule ends: those of `restarts`, then the last."""
        ends = map(int, split_names(self.restarts))
        return (*ends, *([] if self.epochs is None else [self.epochs]))

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats of each export, beside the SavedModel."""
        return chosen_formats(self.export_format)

    @property
    def name(self) -> str:
        """What the exports are called: data set and architectures."""
        path = self.dataset.startswith((".", "~", "/"))
        dataset = pathlib.PurePath(self.dataset).name if path else self.dataset.rstrip("/")
        return re.sub(r"[^\w.-]+", "_", "_".join([dataset, *dict.fromkeys(self.architectures)]))

    @property
    def folder(self) -> str:
        """`workdir`, or the folder that is made up from the settings."""
        recipe = "_".join(self.recipe)
        fold = self.fold and f"_fold{self.fold.replace('/', 'of')}"
        return self.workdir or f"runs/{self.name}_{recipe}_seed{self.seed}{fold}"

    @property
    def recipe(self) -> tuple[str, ...]:
        """The method and the mixing; once where both have one name."""
        return tuple(dict.fromkeys((self.method, self.mix)))

    def flagfile(self) -> str:
        """The run as a file for --flagfile; how to treat an earlier run is left out."""
        lines = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.metadata["role"] is not Role.EARLIER_RUN and value is not None:
                lines.append(f"--{field.name}={value}\n")
        return "".join(lines)


def chosen_formats(export_format: str) -> tuple[str, ...]:
    """The formats of a comma list, beside the SavedModel that each export holds.

    Raises:
      InputError: there is no such format.
    """
    chosen = dict.fromkeys(split_names(export_format))
    for name in chosen:
        if name not in FORMATS:
            raise unknown("--export_format", name, FORMATS)
    return tuple(name for name in chosen if name != "savedmodel")


# Where a run finds and leaves its files, which says nothing about what it does.
PLACES = names_of(Config, Role.PLACE)
# What a run finds for itself, and a resumed one does not find anew.
_OPEN = ("batch_size", "crop", "augment", *_BY_START, *_BY_OPTIMIZER["sgd"])
_Config = TypeVar("_Config", bound=Config)


def check_meaning(config: Config) -> None:
    """Raise `InputError` for a setting, other than its default, that nothing would come of."""
    for name, reason in meaningless(config).items():
        value = getattr(config, name)
        raise InputError(f"--{name}={value} has no meaning {reason}: leave it out")


def meaningless(config: Config) -> dict[str, str]:
    """The settings that nothing would come of, with the reason."""
    found: dict[str, str] = {}
    if config.method != "kd":
        found |= dict.fromkeys(
            ("teacher", "classes_by_position"), f"with --method={config.method}, only with kd"
        )
    if not config.unlabelled:
        found["unlabelled_ratio"] = "without --unlabelled"
    if not config.resume:
        found["new_images"] = "without --resume"
    if config.mix == "none":
        found |= dict.fromkeys(_RATIOS, "with --mix=none, which mixes nothing")
    if config.mix != "cutnmix":
        found["regions"] = f"with --mix={config.mix}, only with cutnmix"
    if config.distribute != "none":
        found["jit"] = f"with --distribute={config.distribute}, which XLA cannot compile"
    if config.method == "independent":
        found["temperature"] = "with --method=independent, which imitates nothing"
    if config.augment == "photo" and config.crop:
        found["crop"] = "with --augment=photo, which crops otherwise"
    if config.optimizer == "adamw":
        found["momentum"] = "with --optimizer=adamw"
    if config.freeze == "backbone":
        found["learning_rate_backbone"] = "with --freeze=backbone, which keeps it as it is"
    if config.validation_split != "auto" and config.validation_fraction:
        found["validation_fraction"] = f"beside --validation_split={config.validation_split}"
    weights = config.term_weights
    if weights.get("teacher") == 0:
        found |= dict.fromkeys(_TEACHING, "with --weights=teacher=0, which switches the term off")
    alone = [name for name in _BETWEEN_PEERS if weights.get(name)]
    if alone and config.method == "cutnmix" and len(config.architectures) == 1:
        found["weights"] = f"for {alone[0]} with one peer, as it compares peers"
    defaults = {field.name: field.default for field in dataclasses.fields(Config)}
    return {name: why for name, why in found.items() if getattr(config, name) != defaults[name]}


def with_defaults(config: _Config) -> _Config:
    """The settings, with values for what was left open and depends on where networks start."""
    # Flags of before there was a choice of an optimizer name the momentum of the one there was.
    old = not config.optimizer and config.momentum is not None
    tuned = config.fine_tunes and not old
    optimizer = config.optimizer or _BY_START["optimizer"][tuned]
    table = _BY_START | {"optimizer": (optimizer, optimizer)} | _BY_OPTIMIZER[optimizer]
    found = {name: values[tuned] for name, values in table.items()}
    if config.freeze == "backbone":
        found["learning_rate_backbone"] = None
    return dataclasses.replace(config, **{n: found[n] for n in found if getattr(config, n) is None})


def learning_flags(config: Config) -> str:
    """How a run learns, as flags."""
    names = (*_BY_START, *_BY_OPTIMIZER["sgd"])
    values = {name: getattr(config, name) for name in names}
    return " ".join(f"--{name}={value}" for name, value in values.items() if value is not None)


def as_begun(config: _Config, flagfile: str) -> _Config:
    """The settings of a run that is resumed; what they leave open is as it was begun."""
    before = settings_in(flagfile)
    begun = {name: from_text(Config, name, before[name]) for name in _OPEN if name in before}
    return dataclasses.replace(config, **{n: begun[n] for n in begun if getattr(config, n) is None})


def settings_in(flagfile: str) -> dict[str, str]:
    """The settings of a run as its `flags.cfg` has them, by name; unnamed ones have their defaults.

    Retired settings are among them where they had another value than their default.
    """
    named = named_in(flagfile)
    own = {name: value for name, value in named.items() if RETIRED.get(name) != value}
    optimizer = "adamw" if named.get("optimizer") == "adamw" else "sgd"
    return named_in(with_defaults(Config(optimizer=optimizer)).flagfile()) | own


def named_in(flagfile: str) -> dict[str, str]:
    """The settings that a flagfile names, with their values as text."""
    lines = (line for line in flagfile.splitlines() if line.startswith("--"))
    parts = (line.removeprefix("--").partition("=") for line in lines)
    return {name: value for name, _, value in parts}


def validation_from(settings: Mapping[str, Any], result: Mapping[str, Any]) -> str | float:
    """Where the images came from on which a run chose its best epoch.

    Args:
      settings: of the run, by name.
      result: what its `result.json` holds, which in runs of before does not name the split.

    Returns:
      The name of their split, or the part of the training split that was held out; 0 for none.
    """
    split = str(result.get("validation_split", settings["validation_split"]))
    return float(settings["validation_fraction"]) if split in ("", "auto") else split
