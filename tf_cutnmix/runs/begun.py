"""What a run that goes on takes from how it was begun."""

import dataclasses
import pathlib
from typing import TypeVar

from tf_cutnmix.runs.config import BEFORE, Config

_Config = TypeVar("_Config", bound=Config)


def as_begun(config: _Config) -> _Config:
    """The settings of a run that may be resumed, those that are left to it as it was begun with.

    That is the batch size, if none is named, and what runs did before there was a setting for it.
    """
    flags = pathlib.Path(config.folder) / "flags.cfg"
    if not (config.resume and flags.is_file()):
        return config
    lines = (line.removeprefix("--") for line in flags.read_text(errors="replace").splitlines())
    named = dict(line.split("=", maxsplit=1) for line in lines if "=" in line)
    changes = {name: value for name, value in BEFORE.items() if name not in named}
    if config.batch_size is None and named.get("batch_size", "").isdecimal():
        changes["batch_size"] = max(1, int(named["batch_size"]))
    return dataclasses.replace(config, **changes)
