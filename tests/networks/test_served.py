"""What an export answers, in the order of the data's classes."""

import pytest

from tf_cutnmix.errors import InputError
from tf_cutnmix.networks import served

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize("name", [COMPOSED, DECOMPOSED])
def test_classes_are_found_however_unicode_writes_their_names(name) -> None:
    assert served.columns("it", ("a", "b", DECOMPOSED), (name, "a", "b")) == [2, 0, 1]
    assert served.columns("it", (COMPOSED, "a", "b"), ("b", name, "a")) == [2, 0, 1]


def test_two_classes_that_look_alike_are_not_taken_for_one() -> None:
    with pytest.raises(InputError, match=f"it has '{COMPOSED}', they have no others"):
        served.columns("it", (COMPOSED, DECOMPOSED, "a"), ("a", COMPOSED))
