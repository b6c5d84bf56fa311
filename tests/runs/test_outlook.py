"""What is known of a run before it begins, and times in words."""

import time

import pytest

from tf_cutnmix.runs import outlook


def test_facts_stand_under_each_other() -> None:
    assert outlook.block({"a": "1", "long": "2"}) == "a     1\nlong  2"


def test_few_classes_are_named_with_their_counts() -> None:
    counts = {"train": [3, 4], "validation": [0, 0], "test": [1, 1]}
    facts = outlook.data("./pets", (8, 12), ["cat, dog", "x\ny" + "z" * 99], counts)
    assert facts["data"] == "./pets, 12 x 8 pixels, 7 train, 0 validation, 2 test images"
    assert facts["classes"] == r"2, training images cat, dog: 3, x\nyzzzzzzzz…zzzzzzzzzzz: 4"


def test_of_many_classes_the_rarest_and_the_commonest_are() -> None:
    counts = {"train": [5] * 20 + [2] + [9] * 9, "test": [1] * 30}
    facts = outlook.data("x", (8, 8), [f"c{k}" for k in range(30)], counts)
    assert facts["classes"] == "30, training images from c20: 2 to c29: 9"


def test_a_split_that_lacks_classes_is_told_and_an_empty_one_is_not() -> None:
    counts = {"train": [3, 4, 0], "validation": [0, 0, 0], "test": [1, 0, 0]}
    assert outlook.lacking(["a", "x\ny", "c"], counts) == [
        "train has no images of 1 of the 3 classes: c",
        r"test has no images of 2 of the 3 classes: x\ny, c",
    ]
    (line,) = outlook.lacking([f"c{k}" for k in range(99)], {"test[:1]": [1] + [0] * 98})
    assert line.endswith(
        "of 98 of the 99 classes: c1, c2, c3, c4, c5, c6, c7, c8, c9, c10 and 88 more"
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (99.4, "99 s"),
        (100, "2 min"),
        (3569, "59 min"),
        (3599, "1 h 0 min"),
        (2 * 3600 + 25 * 60, "2 h 25 min"),
        (52 * 3600, "2 d 4 h"),
    ],
)
def test_a_duration_is_in_the_units_that_say_enough(seconds: float, words: str) -> None:
    assert outlook.duration(seconds) == words


def test_the_end_names_the_day_if_it_is_not_today() -> None:
    noon = time.mktime((2026, 11, 26, 12, 0, 0, 0, 0, -1))
    assert outlook.end(5400, noon) == "13:30"
    assert outlook.end(13 * 3600, noon) == "Fri 27 Nov 01:00"


@pytest.mark.parametrize(("seconds", "gpus", "told"), [(3599, 0, 0), (3700, 0, 1), (3700, 1, 0)])
def test_advice_is_for_long_runs_without_a_gpu(seconds: float, gpus: int, told: int) -> None:
    words = outlook.advice(seconds, gpus)
    assert bool(words) == bool(told)
    assert words is None or ("--epochs" in words and "\n" not in words)
