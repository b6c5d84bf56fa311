"""The held-out part of a training set."""

import tracemalloc
import types

import hypothesis
import hypothesis.strategies as st
import numpy as np
import psutil
import pytest

from tests.data.pictures import numbered
from tf_cutnmix import data
from tf_cutnmix.errors import InputError


def labelled(*labels: int, twins: dict[int, int] | None = None) -> data.Images:
    """Images of these labels that differ, but for twins, at the first place as at the second."""
    images = numbered(len(labels))
    pixels = images.pixels.copy()
    for one, other in (twins or {}).items():
        pixels[one] = pixels[other]
    names = tuple(map(str, range(max(labels) + 1)))
    return data.Images(pixels, np.array(labels, np.int32), names)


hold_out = data.hold_out


@hypothesis.given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=200), fraction=st.floats(0.01, 0.99)
)
def test_every_class_of_two_images_is_on_both_sides_by_its_share(
    labels: list[int], fraction: float
) -> None:
    images = labelled(*labels)
    train, validation = hold_out(images, fraction)
    both = np.concatenate([train.pixels, validation.pixels])[:, 0, 0, 0]
    assert sorted(both) == list(range(len(labels)))
    for part in (train, validation):
        np.testing.assert_array_equal(part.labels, images.labels[part.pixels[:, 0, 0, 0]])
    for label in set(labels):
        count, held = labels.count(label), int(np.sum(validation.labels == label))
        assert held == 0 if count == 1 else 1 <= held <= count - 1
        assert abs(held - fraction * count) < 1 or held in (1, count - 1)


@hypothesis.given(labels=st.lists(st.integers(0, 4), min_size=2, max_size=200), data_=st.data())
def test_so_many_are_drawn_of_each_class_in_proportion(labels: list[int], data_) -> None:
    images, classes = labelled(*labels), len(set(labels))
    count = data_.draw(st.integers(classes, len(labels)))
    drawn = data.draw(images, count, seed=3)
    places = drawn.pixels[:, 0, 0, 0]
    assert len(set(places)) == len(drawn.labels) == count
    np.testing.assert_array_equal(drawn.labels, images.labels[places])
    for label in set(labels):
        own, share = int(np.sum(drawn.labels == label)), labels.count(label) * count / len(labels)
        assert own >= 1
        # One of each class is given first: of what is left it has its share.
        assert abs(own - share) <= 2 or own == 1


def test_balanced_classes_are_drawn_alike_and_another_seed_draws_others() -> None:
    images = labelled(*list(range(4)) * 50)
    drawn = [data.draw(images, 40, seed).pixels[:, 0, 0, 0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert len(set(drawn[0]) & set(drawn[2])) < 20
    assert np.bincount(drawn[2] % 4).tolist() == [10] * 4


@pytest.mark.parametrize("count", [2, 8])
def test_more_images_than_there_are_or_fewer_than_classes_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"--train_images={count}: must be from 3, .* to the 7"):
        data.draw(labelled(0, 0, 1, 1, 1, 2, 2), count, seed=0)


def test_as_many_are_held_out_as_the_fraction_says() -> None:
    images = labelled(*[0] * 55, *[1] * 27, *[2] * 18)
    counts = np.bincount(hold_out(images, 0.1)[1].labels)
    assert counts.tolist() == [5, 3, 2]


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5])
def test_twins_are_on_one_side_whatever_their_labels(fraction: float) -> None:
    random = np.random.default_rng(5)
    twins = {int(i): int(random.integers(0, 60)) for i in random.permutation(np.arange(60, 120))}
    images = labelled(*random.integers(0, 4, 120), twins=twins)
    train, validation = hold_out(images, fraction)
    seen = {row.tobytes() for row in train.pixels}
    assert len(validation.labels) > 8
    assert not seen & {row.tobytes() for row in validation.pixels}


def test_a_class_of_twins_alone_stays_for_training() -> None:
    images = labelled(0, 0, 0, 1, 1, 1, 1, twins={0: 2, 1: 2})
    train, validation = hold_out(images, 0.3)
    assert np.sum(train.labels == 0) == 3
    assert validation.labels.tolist() == [1]


def test_a_class_of_pairs_of_twins_gives_a_pair() -> None:
    images = labelled(0, 0, 0, 0, 1, 1, 1, 1, twins={0: 1, 2: 3})
    assert np.bincount(hold_out(images, 0.25)[1].labels).tolist() == [2, 1]


def test_held_out_images_are_the_same_in_every_run() -> None:
    images = labelled(*range(5), *range(5), *range(5), *range(5))
    first = hold_out(images, 0.4)[1].pixels
    np.random.seed(123)
    hold_out(labelled(0, 1, 0, 1), 0.5)
    np.testing.assert_array_equal(hold_out(images, 0.4)[1].pixels, first)


def test_held_out_images_come_from_everywhere() -> None:
    held_out = hold_out(labelled(*[0] * 200), 0.5)[1].pixels[:, 0, 0, 0]
    assert 30 < np.sum(held_out < 100) < 70


def test_nothing_is_held_out_of_fraction_0() -> None:
    train, validation = hold_out(numbered(10), 0.0)
    assert train.labels.tolist() == list(range(10))
    assert validation.pixels.shape == (0, 2, 3, 3)


def test_holding_out_does_not_fetch_the_images_into_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = data.load("digits", "train", image_size=32)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(available=1000))
    tracemalloc.start()
    train, validation = hold_out(images, 0.5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(train.pixels) + len(validation.pixels) == 1437
    assert peak < images.pixels.nbytes / 4
