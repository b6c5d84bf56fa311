"""The order of batches is a function of (seed, epoch)."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from tests.data.pictures import numbered
from tf_cutnmix import data


def epochs_of(count: int, batch_size: int, epochs: int, **settings: int) -> list[list[int]]:
    """The positions that each epoch of shuffled batches shows, from pixels and labels alike."""
    steps = count // batch_size
    batches = data.shuffled_batches(numbered(count), batch_size, **settings).take(steps * epochs)
    pixels, labels = zip(*batches.as_numpy_iterator(), strict=True)
    np.testing.assert_array_equal(np.concatenate(pixels)[:, 1, 2, 0], np.concatenate(labels))
    return np.reshape(labels, (epochs, steps * batch_size)).tolist()


@hypothesis.given(count=st.integers(1, 40), batch_size=st.integers(1, 10), seed=st.integers(0, 99))
def test_no_image_comes_twice_in_an_epoch(count: int, batch_size: int, seed: int) -> None:
    hypothesis.assume(batch_size <= count)
    for epoch in epochs_of(count, batch_size, 2, seed=seed):
        assert len(set(epoch)) == len(epoch) == count - count % batch_size


def test_a_full_epoch_is_a_permutation() -> None:
    for epoch in epochs_of(24, 4, 3, seed=0):
        assert sorted(epoch) == list(range(24)) != epoch


def test_the_remainder_is_another_one_in_each_epoch() -> None:
    epochs = epochs_of(20, 8, 6, seed=0)
    assert len({frozenset(range(20)) - frozenset(epoch) for epoch in epochs}) == 6
    assert set().union(*epochs) == set(range(20))


def test_a_run_may_start_at_any_epoch() -> None:
    whole = epochs_of(20, 6, 4, seed=5)
    assert epochs_of(20, 6, 2, seed=5, first_epoch=2) == whole[2:]


def test_every_seed_and_epoch_has_its_own_order() -> None:
    orders = [tuple(epoch) for seed in range(4) for epoch in epochs_of(20, 5, 4, seed=seed)]
    assert len(set(orders)) == 16


def test_shuffled_batches_repeat_when_read_again() -> None:
    batches = data.shuffled_batches(numbered(10), 4, seed=1).take(5)
    first, second = ([y.tolist() for _, y in batches.as_numpy_iterator()] for _ in range(2))
    assert first == second


def test_shuffled_batches_have_a_static_shape() -> None:
    pixels, labels = data.shuffled_batches(numbered(10), 4, seed=0).element_spec
    assert pixels == tf.TensorSpec([4, 2, 3, 3], tf.uint8)
    assert labels == tf.TensorSpec([4], tf.int32)


def unlike(*counts: int) -> data.Images:
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    return numbered(len(labels))._replace(labels=labels)


def test_a_balanced_epoch_shows_each_class_as_often() -> None:
    images = unlike(3, 20, 1)
    batches = data.shuffled_batches(images, 4, seed=1, balanced=True).take(12)
    pixels, labels = (np.concatenate(x) for x in zip(*batches.as_numpy_iterator(), strict=True))
    np.testing.assert_array_equal(images.labels[pixels[:, 0, 0, 0]], labels)
    for epoch in (labels[:24], labels[24:]):
        assert np.bincount(epoch).tolist() == [8, 8, 8]
        assert np.any(epoch != np.sort(epoch))
    # Each small class's images come equally often, a large one's once, others in each epoch.
    first, second = pixels[:24, 0, 0, 0], pixels[24:, 0, 0, 0]
    assert sorted(np.bincount(first, minlength=24)[:3]) == [2, 3, 3]
    large = [set(epoch[(epoch >= 3) & (epoch < 23)]) for epoch in (first, second)]
    assert [len(seen) for seen in large] == [8, 8]
    assert large[0] != large[1]


def test_a_balanced_order_is_a_function_of_seed_and_epoch() -> None:
    def epoch(number: int, **settings: int) -> list[int]:
        batches = data.shuffled_batches(unlike(3, 9), 4, balanced=True, **settings)
        pixels = [x[:, 0, 0, 0] for x, _ in batches.skip(3 * number).take(3).as_numpy_iterator()]
        return np.concatenate(pixels).tolist()

    assert epoch(2, seed=1) == epoch(0, seed=1, first_epoch=2) != epoch(0, seed=1)
    assert epoch(0, seed=1) != epoch(0, seed=2)


@pytest.mark.parametrize(("batch_size", "sizes"), [(4, [4, 4, 2]), (5, [5, 5]), (20, [10])])
def test_ordered_batches_hold_all_images_once(batch_size: int, sizes: list[int]) -> None:
    batches = data.ordered_batches(numbered(10), batch_size)
    assert batches.cardinality() == len(sizes)
    pixels, labels = zip(*batches.as_numpy_iterator(), strict=True)
    assert [len(batch) for batch in labels] == sizes
    assert np.concatenate(labels).tolist() == list(range(10))
    np.testing.assert_array_equal(np.concatenate(pixels), numbered(10).pixels)
