"""What --help tells without TensorFlow."""

from tf_cutnmix.distillation.method import METHODS
from tf_cutnmix.runs import names


def test_the_names_that_are_read_are_those_of_the_registry() -> None:
    assert set(names.methods()) == set(METHODS)
    assert len(names.methods()) == len(METHODS)
