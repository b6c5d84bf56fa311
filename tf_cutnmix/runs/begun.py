"""What a run that goes on takes from how it was begun."""

import dataclasses
from typing import TypeVar

from tf_cutnmix.runs.config import BEFORE, Config, named_in

_Config = TypeVar("_Config", bound=Config)


def as_begun(config: _Config, flagfile: str) -> _Config:
    """The settings of a run that is resumed, those that are left to it as it was begun with.

    That is the batch size, if none is named, and what runs did before there was a setting for it.
    """
    batch_size = named_in(flagfile).get("batch_size", "")
    if config.batch_size is None and batch_size.isdecimal():
        config = dataclasses.replace(config, batch_size=max(1, int(batch_size)))
    return as_before(config, flagfile)


def as_before(config: _Config, flagfile: str) -> _Config:
    """The settings with what runs did before there was a setting, where a flagfile names none."""
    unnamed = BEFORE.keys() - named_in(flagfile).keys()
    return dataclasses.replace(config, **{name: BEFORE[name] for name in unnamed})
