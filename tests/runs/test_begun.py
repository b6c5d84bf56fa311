"""What a run that goes on takes from how it was begun."""

from tf_cutnmix.runs.begun import as_begun
from tf_cutnmix.runs.config import Config, settings_in


def test_a_run_of_before_goes_on_with_its_rule_and_its_batch_size() -> None:
    config = as_begun(Config(), "--batch_size=128\n--seed=3\n")
    assert (config.hold_out, config.batch_size, config.seed) == ("at_random", 128, 0)
    before, now = settings_in("--batch_size=128\n"), settings_in(config.flagfile())
    assert before["hold_out"] == now["hold_out"] == "at_random"


def test_a_run_of_now_goes_on_with_the_batch_size_that_it_chose() -> None:
    begun = "--batch_size=16\n--hold_out=by_class\n"
    config = as_begun(Config(), begun)
    assert (config.hold_out, config.batch_size) == ("by_class", 16)
    assert as_begun(Config(batch_size=32), begun).batch_size == 32
