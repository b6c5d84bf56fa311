"""Errors are caught as what they are, and answer with what is near."""

from tf_cutnmix import errors


def test_errors_are_caught_as_the_builtin_errors_that_they_are() -> None:
    assert issubclass(errors.InputError, ValueError)
    assert issubclass(errors.DivergenceError, ArithmeticError)
    assert issubclass(errors.InputError, errors.RunError)
    assert issubclass(errors.DivergenceError, errors.RunError)


def test_a_process_that_failed_is_told_by_the_end_of_what_it_said() -> None:
    assert errors.last_line("Traceback:\n  File 'x'\nValueError: no\n\n") == "ValueError: no"
    assert errors.last_line("\n") == "it says nothing"


def test_an_unknown_name_is_answered_with_the_nearest_or_all() -> None:
    allowed = ["zebra", "ape"]
    assert str(errors.unknown("animal", "zebar", allowed)) == (
        "unknown animal 'zebar': did you mean 'zebra'?"
    )
    assert str(errors.unknown("animal", "ox", allowed)) == (
        "unknown animal 'ox': one of ape, zebra"
    )
