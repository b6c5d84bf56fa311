"""What a run that goes on takes from how it was begun."""

import pathlib

import pytest

from tf_cutnmix.runs.begun import as_begun
from tf_cutnmix.runs.config import Config, settings_in


def begun(folder: pathlib.Path, *lines: str) -> None:
    (folder / "flags.cfg").write_text("".join(f"{line}\n" for line in lines))


def test_a_run_of_before_goes_on_with_its_rule_and_its_batch_size(tmp_path) -> None:
    begun(tmp_path, "--batch_size=128", "--seed=3")
    config = as_begun(Config(workdir=str(tmp_path), resume=True))
    assert (config.hold_out, config.batch_size, config.seed) == ("at_random", 128, 0)
    before, now = settings_in("--batch_size=128\n"), settings_in(config.flagfile())
    assert before["hold_out"] == now["hold_out"] == "at_random"


def test_a_run_of_now_goes_on_with_the_batch_size_that_it_chose(tmp_path) -> None:
    begun(tmp_path, "--batch_size=16", "--hold_out=by_class")
    config = as_begun(Config(workdir=str(tmp_path), resume=True))
    assert (config.hold_out, config.batch_size) == ("by_class", 16)
    assert as_begun(Config(workdir=str(tmp_path), resume=True, batch_size=32)).batch_size == 32


@pytest.mark.parametrize("settings", [{}, {"overwrite": True}])
def test_another_run_is_as_its_settings_say(settings, tmp_path) -> None:
    begun(tmp_path, "--batch_size=16")
    config = Config(workdir=str(tmp_path), **settings)
    assert as_begun(config) == config
    nowhere = Config(workdir=str(tmp_path / "nowhere"), resume=True)
    assert as_begun(nowhere) == nowhere
