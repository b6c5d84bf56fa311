"""Mixing as a map of a dataset."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import harness
from tests.mixing.batches import LAYERS, NUM_CLASSES, make_labels, photos, to_numpy, views
from tf_cutnmix import CutMix, CutNMix, mix_dataset


@pytest.fixture(scope="module")
def layer():
    return CutNMix(2, num_classes=NUM_CLASSES, seed=5)


@pytest.fixture(scope="module")
def dataset():
    """Two batches of four and one of two."""
    return tf.data.Dataset.from_tensor_slices(photos(10)).batch(4)


def passes(dataset, number):
    return [to_numpy(list(dataset)) for _ in range(number)]


def assert_mixed_in_order(mixed, dataset, layer):
    for step, (after, before) in enumerate(zip(mixed, dataset, strict=True)):
        harness.assert_same(after, layer(before, step=step), rounded=["labels"])


@pytest.mark.parametrize(
    ("layer", "options"),
    [(CutNMix, {"num_parallel_calls": 1}), *((layer, {"device": "/cpu:0"}) for layer in LAYERS)],
)
def test_first_pass_is_mixed_as_the_layer_mixes(dataset, layer, options):
    layer = layer(num_classes=NUM_CLASSES, seed=0)
    mixed = dataset.apply(mix_dataset(layer, jit_compile=False, **options))
    assert_mixed_in_order(mixed, dataset, layer)
    assert layer.calls == 0


def test_xla_compiles_the_map_and_strings_pass_by_it(layer):
    names = np.array(list("abcdefghij"))
    dataset = tf.data.Dataset.from_tensor_slices(photos(10, name=names)).batch(5)
    mixed = list(dataset.apply(mix_dataset(layer)))
    assert_mixed_in_order(mixed, dataset, layer)
    assert b"".join(name for batch in mixed for name in batch["name"].numpy()) == b"abcdefghij"


def test_pairs_and_views_are_mixed_as_dictionaries_are(dataset, layer):
    pairs = dataset.map(lambda batch: (batch["images"], batch["labels"]))
    mixed = pairs.apply(mix_dataset(layer, jit_compile=False))
    assert isinstance(mixed.element_spec, tuple)
    as_dictionaries = [{"images": images, "labels": labels} for images, labels in mixed]
    assert_mixed_in_order(as_dictionaries, dataset, layer)
    several, of_three = tf.data.Dataset.from_tensors(views()), CutNMix(3, num_classes=10, seed=0)
    mixed = several.apply(mix_dataset(of_three, jit_compile=False))
    assert_mixed_in_order(mixed, several, of_three)


def weighted(layer, labels, weights, **options):
    """A batch mixed with weights, as a triple; equal to the same as a dictionary."""
    batch = photos() | {"labels": labels, "sample_weight": weights}
    mix = mix_dataset(layer, **options)
    (triple,) = tf.data.Dataset.from_tensors(tuple(batch.values())).apply(mix)
    (named,) = tf.data.Dataset.from_tensors(batch).apply(mix)
    harness.assert_same(dict(zip(batch, triple, strict=True)), named)
    return to_numpy(triple)


@pytest.mark.parametrize("layer", LAYERS)
def test_weights_of_one_change_nothing_whatever_the_labels_add_up_to(layer):
    labels = np.random.default_rng(0).integers(0, 2, [6, NUM_CLASSES])
    labels[0] = 0
    layer = layer(num_classes=NUM_CLASSES, seed=0)
    images, mixed, weights = weighted(layer, labels, np.ones([6, 1]), jit_compile=False)
    expected = layer(photos() | {"labels": labels}, training=True, step=0)
    np.testing.assert_array_equal(images, expected["images"])
    np.testing.assert_allclose(mixed, expected["labels"], rtol=1e-6)
    np.testing.assert_allclose(weights, np.ones(6), rtol=1e-6)


def test_each_part_of_a_sample_counts_by_its_own_weight():
    layer = CutMix(num_classes=NUM_CLASSES, seed=0)
    given, labels = np.array([0, 1, 2, 0, 0.5, 0]), make_labels(6, "one-hot")
    labels[1] = 0  # its weight counts all the same
    _, mixed, weights = weighted(layer, labels, given)
    draw = layer.draw_for({"images": np.zeros([6, 5, 8, 3]), "labels": labels}, 0)
    share = (1 - np.prod(draw.boxes[:, 0, 2:], axis=-1) / 40)[:, None]
    of = np.stack([given, *(labels * given[:, None]).T], axis=-1)
    both = share * of + (1 - share) * of[draw.partner]
    np.testing.assert_allclose(weights, both[:, 0], rtol=1e-5)
    np.testing.assert_allclose(mixed * both[:, :1], both[:, 1:], rtol=1e-5, atol=1e-7)
    assert np.all(mixed[both[:, 0] == 0] == 0)


def test_weights_of_another_number_and_somebody_elses_layer_are_refused():
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="6"):
        weighted(CutMix(seed=0), make_labels(6, "soft"), np.ones([6, 2]))
    with pytest.raises(ValueError, match=r"map any other: dataset\.map"):
        mix_dataset(keras.layers.CutMix())


def test_each_pass_draws_anew_and_a_fresh_dataset_repeats_them(layer):
    same = tf.data.Dataset.from_tensors(photos()).repeat(3)
    mix = mix_dataset(layer, jit_compile=False)
    drawn = list(itertools.chain(*passes(same.apply(mix), 3)))
    again = itertools.chain(*passes(same.apply(mix), 3))
    assert len({batch["images"].tobytes() for batch in drawn}) == 9
    for one, other in zip(drawn, again, strict=True):
        harness.assert_same(one, other)


@pytest.mark.parametrize("count", [None, 0, 2], ids=["infinite", "empty", "twice"])
def test_cardinality_is_kept(dataset, layer, count):
    repeated = dataset.repeat(count)
    mixed = repeated.apply(mix_dataset(layer, jit_compile=False))
    assert mixed.cardinality() == repeated.cardinality()
    assert len(list(mixed.take(7))) == len(list(repeated.take(7)))


def test_dataset_of_unknown_length_is_mixed(dataset, layer):
    unknown = dataset.filter(lambda batch: True)
    mixed = unknown.apply(mix_dataset(layer, jit_compile=False))
    assert mixed.cardinality() == tf.data.UNKNOWN_CARDINALITY
    assert_mixed_in_order(mixed, dataset, layer)
