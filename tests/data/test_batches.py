"""The order of batches is a function of (seed, epoch)."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from tests.data.pictures import numbered
from tf_cutnmix import data


def epochs_of(images: data.Images, batch_size: int, epochs: int, **settings: int) -> np.ndarray:
    """The positions that each epoch of shuffled batches shows; labels are those of the images."""
    steps = len(images.labels) // batch_size
    batches = data.shuffled_batches(images, batch_size, **settings).take(steps * epochs)
    pixels, labels = map(np.concatenate, zip(*batches.as_numpy_iterator(), strict=True))
    np.testing.assert_array_equal(images.labels[pixels[:, 1, 2, 0]], labels)
    return np.reshape(pixels[:, 1, 2, 0], (epochs, steps * batch_size))


@hypothesis.given(count=st.integers(1, 40), batch_size=st.integers(1, 10), seed=st.integers(0, 99))
def test_no_image_comes_twice_in_an_epoch(count: int, batch_size: int, seed: int) -> None:
    hypothesis.assume(batch_size <= count)
    for epoch in epochs_of(numbered(count), batch_size, 2, seed=seed):
        assert len(set(epoch)) == len(epoch) == count - count % batch_size


def test_the_remainder_is_another_one_in_each_epoch() -> None:
    epochs = epochs_of(numbered(20), 8, 6, seed=0)
    assert len({frozenset(range(20)) - frozenset(epoch) for epoch in epochs}) == 6
    assert set(epochs.ravel()) == set(range(20))


def of_unlike_classes(*counts: int) -> data.Images:
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    return numbered(len(labels))._replace(labels=labels)


@pytest.mark.parametrize("balanced", [False, True])
def test_every_seed_and_epoch_has_its_own_order_and_a_run_may_start_at_any(balanced) -> None:
    images = of_unlike_classes(3, 17)
    orders = [epochs_of(images, 5, 4, seed=seed, balanced=balanced) for seed in range(4)]
    assert len({tuple(epoch) for epochs in orders for epoch in epochs}) == 16
    later = epochs_of(images, 5, 2, seed=3, first_epoch=2, balanced=balanced)
    np.testing.assert_array_equal(later, orders[3][2:])


def test_shuffled_batches_have_a_static_shape_and_repeat_when_read_again() -> None:
    batches = data.shuffled_batches(numbered(10), 4, seed=1)
    pixels, labels = batches.element_spec
    assert pixels == tf.TensorSpec([4, 2, 3, 3], tf.uint8)
    assert labels == tf.TensorSpec([4], tf.int32)
    first, second = ([y.tolist() for _, y in batches.take(5).as_numpy_iterator()] for _ in "12")
    assert first == second


@hypothesis.given(count=st.integers(1, 12), size=st.integers(1, 15), seed=st.integers(0, 9))
def test_endless_batches_show_all_images_before_one_comes_again(count, size, seed) -> None:
    batches = data.endless_batches(numbered(count), size, seed=seed)
    assert batches.element_spec == tf.TensorSpec([size, 2, 3, 3], tf.uint8)
    number = -(-3 * count // size)
    shown = np.concatenate(list(batches.take(number).as_numpy_iterator()))[:, 0, 0, 0]
    turns = shown[: 3 * count].reshape(3, count)
    np.testing.assert_array_equal(np.sort(turns), np.tile(np.arange(count), (3, 1)))
    assert count < 9 or len(set(map(tuple, turns))) == 3
    later = data.endless_batches(numbered(count), size, seed=seed, first_batch=number - 1)
    np.testing.assert_array_equal(
        next(iter(later))[:, 0, 0, 0], shown[-size:], err_msg="it begins at any"
    )


def test_a_balanced_epoch_shows_each_class_as_often() -> None:
    images = of_unlike_classes(3, 20, 1)
    epochs = epochs_of(images, 4, 2, seed=1, balanced=True)
    for epoch in epochs:
        assert np.bincount(images.labels[epoch]).tolist() == [8, 8, 8]
        assert np.any(epoch != np.sort(epoch))
    # Each small class's images come equally often, a large one's once, others in each epoch.
    assert sorted(np.bincount(epochs[0], minlength=24)[:3]) == [2, 3, 3]
    large = [set(epoch[(epoch >= 3) & (epoch < 23)]) for epoch in epochs]
    assert [len(shown) for shown in large] == [8, 8]
    assert large[0] != large[1]


@pytest.mark.parametrize(("batch_size", "sizes"), [(4, [4, 4, 2]), (5, [5, 5]), (20, [10])])
def test_ordered_batches_hold_all_images_once(batch_size: int, sizes: list[int]) -> None:
    batches = data.ordered_batches(numbered(10), batch_size)
    assert batches.cardinality() == len(sizes)
    pixels, labels = zip(*batches.as_numpy_iterator(), strict=True)
    assert [len(batch) for batch in labels] == sizes
    assert np.concatenate(labels).tolist() == list(range(10))
    np.testing.assert_array_equal(np.concatenate(pixels), numbered(10).pixels)
