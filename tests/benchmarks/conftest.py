"""PyTorch and JAX take seconds to import, which a run of other tests does without."""

import pathlib

import pytest


def pytest_ignore_collect(collection_path: pathlib.Path, config: pytest.Config) -> bool | None:
    return True if "not bench" in config.option.markexpr else None
