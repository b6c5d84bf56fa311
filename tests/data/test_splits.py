"""Parts of a split: slices, some that are drawn, and what is held out."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.data.pictures import numbered
from tf_cutnmix.data import Images, draw, fold, hold_out
from tf_cutnmix.data.splits import in_proportion
from tf_cutnmix.errors import InputError


def labelled(*labels: int, twins: dict[int, int] | None = None) -> Images:
    """Images of these labels that differ, but for twins, at the first place as at the second."""
    images = numbered(len(labels))
    pixels = images.pixels.copy()
    for one, other in (twins or {}).items():
        pixels[one] = pixels[other]
    names = tuple(map(str, range(max(labels) + 1)))
    return Images(pixels, np.array(labels, np.int32), names)


@pytest.mark.parametrize(
    "counts", [[16, 16, 8], [1000, *[1] * 100], [7], [0, 3, 0, 5], range(1, 40)]
)
def test_every_beginning_has_of_each_class_its_share_rounded_up_or_down(counts) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    order = in_proportion(labels.tolist())
    assert sorted(order) == list(range(len(labels)))
    had = np.cumsum(np.eye(len(counts))[labels[order]], axis=0)
    shares = np.arange(1, 1 + len(labels))[:, None] * np.array(counts) / len(labels)
    assert np.abs(had - shares).max() < 1
    own = [p for p in order if labels[p] == np.argmax(counts)]
    assert own != sorted(own)


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


@hypothesis.given(labels=st.lists(st.integers(0, 4), min_size=2, max_size=200), data=st.data())
def test_so_many_are_drawn_of_each_class_in_proportion(labels: list[int], data) -> None:
    images, classes = labelled(*labels), len(set(labels))
    count = data.draw(st.integers(classes, len(labels)))
    drawn = draw(images, count, seed=3)
    places = drawn.pixels[:, 0, 0, 0]
    assert len(set(places)) == len(drawn.labels) == count
    np.testing.assert_array_equal(drawn.labels, images.labels[places])
    for label in set(labels):
        own, share = int(np.sum(drawn.labels == label)), labels.count(label) * count / len(labels)
        assert own >= 1
        # One of each class is given first: of what is left it has its share.
        assert abs(own - share) <= 2 or own == 1


def test_another_seed_draws_others() -> None:
    images = labelled(*list(range(4)) * 50)
    drawn = [draw(images, 40, seed).pixels[:, 0, 0, 0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert len(set(drawn[0]) & set(drawn[2])) < 20


@pytest.mark.parametrize("count", [2, 8])
def test_more_images_than_there_are_or_fewer_than_classes_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"--train_images={count}: must be from 3, .* to the 7"):
        draw(labelled(0, 0, 1, 1, 1, 2, 2), count, seed=0)


@pytest.mark.parametrize(
    ("images", "fraction", "counts"),
    [
        (labelled(*[0] * 55, *[1] * 27, *[2] * 18), 0.1, [5, 3, 2]),
        # A class of twins alone stays for training, one of pairs gives a pair.
        (labelled(0, 0, 0, 1, 1, 1, 1, twins={0: 2, 1: 2}), 0.3, [0, 1]),
        (labelled(0, 0, 0, 0, 1, 1, 1, 1, twins={0: 1, 2: 3}), 0.25, [2, 1]),
        (labelled(0, 1, 0, 1), 0.0, [0, 0]),
    ],
)
def test_as_many_are_held_out_as_the_fraction_and_twins_allow(images, fraction, counts) -> None:
    assert hold_out(images, fraction)[1].counts.tolist() == counts


def test_twins_are_on_one_side_whatever_their_labels() -> None:
    random = np.random.default_rng(5)
    twins = {int(i): int(random.integers(0, 60)) for i in random.permutation(np.arange(60, 120))}
    images = labelled(*random.integers(0, 4, 120), twins=twins)
    train, validation = hold_out(images, 0.3)
    trained_on = {row.tobytes() for row in train.pixels}
    assert len(validation.labels) > 8
    assert not trained_on & {row.tobytes() for row in validation.pixels}


def test_held_out_images_are_the_same_in_every_run_and_come_from_everywhere() -> None:
    images = labelled(*[0] * 200)
    first = hold_out(images, 0.5)[1].pixels[:, 0, 0, 0]
    np.random.seed(123)
    np.testing.assert_array_equal(hold_out(images, 0.5)[1].pixels[:, 0, 0, 0], first)
    assert 30 < np.sum(first < 100) < 70


def test_each_image_is_in_one_fold_which_has_its_share_of_each_class() -> None:
    images = labelled(*[0] * 10, *[1] * 20, *[2] * 5)
    parts = [fold(images, number, 5, seed=3) for number in range(1, 6)]
    assert [part.counts.tolist() for _, part in parts] == [[2, 4, 1]] * 5
    everything = set(images.digests())
    for rest, part in parts:
        assert set(rest.digests()) | set(part.digests()) == everything
        assert not set(rest.digests()) & set(part.digests())
    assert len({digest for _, part in parts for digest in part.digests()}) == 35
    again, other = (fold(images, 2, 5, seed)[1].digests() for seed in (3, 4))
    assert again == parts[1][1].digests() != other


def test_equal_images_are_in_one_fold_and_count_once() -> None:
    images = labelled(*[0] * 8, *[1] * 8, twins={0: 1, 2: 3, 9: 1})
    for number in range(1, 4):
        rest, part = fold(images, number, 3, seed=0)
        assert len(rest.labels) + len(part.labels) == 16
        assert not set(rest.digests()) & set(part.digests())
    with pytest.raises(InputError, match=r"--fold=1/7: the class '0' has 6 images that differ"):
        fold(images, 1, 7, seed=0)
