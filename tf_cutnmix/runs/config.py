"""The settings of a training run, together."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from tf_cutnmix.errors import InputError, unknown
from tf_cutnmix.runs import names
from tf_cutnmix.runs.flags import Flags
from tf_cutnmix.settings import NOT_NEGATIVE, check, split_names

# Where a run finds and leaves its files, which says nothing about what it does.
PLACES = ("workdir", "data_dir", "cache_dir", "export_dir")
EXPORTS = ("teacher", "peer", "ensemble", "soup")
# What runs did before there was a setting, where it is not the setting's default.
BEFORE: dict[str, Any] = {"hold_out": "at_random"}


@dataclasses.dataclass(frozen=True)
class Config(Flags):
    """The settings of one training run, which agree with each other.

    Raises:
      InputError: a setting is outside its range, or two settings contradict each other.
    """

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
        if "soup" in self.exports and not self.pull_every:
            raise InputError(
                "--export=soup is of peers that are drawn together: leave it out, or train with "
                "--pull_every=10"
            )
        if self.freeze == "backbone" and self.weights_from == "none":
            raise InputError(
                "--freeze=backbone keeps what is below the classifiers: pass --weights_from"
            )
        if [0, *self.stretches] != sorted({0, *self.stretches}):
            raise InputError(f"--restarts={self.restarts}: must rise, below --epochs={self.epochs}")
        names.chosen_formats(self.export_format)
        if self.resume and self.overwrite:
            raise InputError("--resume and --overwrite contradict each other: pass one of them")

    @property
    def architectures(self) -> tuple[str, ...]:
        """One architecture's name for each peer."""
        names = split_names(self.arch)
        return names if len(names) != 1 else names * (self.num_peers or 2)

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
        names = ("ensemble_members", "ensemble_from", "ensemble_view", "standardise_logits")
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
        return (*map(int, split_names(self.restarts)), self.epochs)

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats of each export, beside the SavedModel."""
        return names.chosen_formats(self.export_format)

    @property
    def name(self) -> str:
        """What the exports are called: data set and architectures."""
        path = self.dataset.startswith((".", "~", "/"))
        dataset = pathlib.PurePath(self.dataset).name if path else self.dataset.rstrip("/")
        return re.sub(r"[^\w.-]+", "_", "_".join([dataset, *dict.fromkeys(self.architectures)]))

    @property
    def folder(self) -> str:
        """`workdir`, or the folder that is made up from the settings."""
        return self.workdir or f"runs/{self.name}_{self.method}_{self.mix}_seed{self.seed}"

    def flagfile(self) -> str:
        """The run as a file for --flagfile; how to treat an earlier run is left out."""
        lines = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in ("resume", "overwrite") and value is not None:
                lines.append(f"--{field.name}={value}\n")
        return "".join(lines)


def settings_in(flagfile: str) -> dict[str, str]:
    """The settings of a run as its `flags.cfg` has them, by name.

    What the file does not name has its default, or what was done before there was such a setting.
    """
    return named_in(Config(**BEFORE).flagfile()) | named_in(flagfile)


def named_in(flagfile: str) -> dict[str, str]:
    """The settings that a flagfile names, with their values as text."""
    parts = (line.removeprefix("--").partition("=") for line in flagfile.splitlines() if line)
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
