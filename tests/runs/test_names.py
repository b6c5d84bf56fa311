"""What --help tells without TensorFlow."""

from tf_cutnmix.distillation.method import METHODS
from tf_cutnmix.runs import names


def test_the_names_of_the_help_are_those_of_the_registry() -> None:
    assert sorted(names.METHODS) == sorted(METHODS)
