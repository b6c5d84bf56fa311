"""Mixing as a map of a dataset."""

import itertools

import keras
import keras_cv
import numpy as np
import pytest
import tensorflow as tf

from tests import harness
from tests.mixing.batches import (
    LAYERS,
    NUM_CLASSES,
    ONE_VIEW,
    index_images,
    make_labels,
    photos,
    to_numpy,
)
from tf_cutnmix import CutMix, CutNMix, mix_dataset


@pytest.mark.parametrize("num_parallel_calls", [None, 8], ids=["serial", "parallel"])
@pytest.mark.parametrize("layer", LAYERS)
def test_dataset_map_repeats_the_layer(layer, num_parallel_calls):
    layer, batch = layer(num_classes=NUM_CLASSES, seed=0), photos(24)
    batches = tf.data.Dataset.from_tensor_slices(batch).batch(3)
    mixed = batches.enumerate().map(
        lambda step, batch: layer(batch, step=step), num_parallel_calls=num_parallel_calls
    )
    for step, (before, after) in enumerate(zip(batches, mixed, strict=True)):
        harness.assert_same(after, layer(before, step=step))


def passes(dataset, number):
    return [to_numpy(list(dataset)) for _ in range(number)]


def assert_mixed_in_order(mixed, dataset, layer):
    for step, (after, before) in enumerate(zip(mixed, dataset, strict=True)):
        harness.assert_same(after, layer(before, step=step), rounded=["labels"])


@pytest.mark.parametrize(
    ("jit_compile", "num_parallel_calls"),
    [(False, 1), (False, 8), (True, 8)],
    ids=["graph, serial", "graph, parallel", "xla, parallel"],
)
def test_first_pass_is_mixed_as_the_layer_mixes(dataset, layer, jit_compile, num_parallel_calls):
    mix = mix_dataset(layer, jit_compile=jit_compile, num_parallel_calls=num_parallel_calls)
    assert_mixed_in_order(dataset.apply(mix), dataset, layer)
    assert layer.calls == 0


@pytest.mark.parametrize("layer_class", ONE_VIEW)
def test_any_mixing_mixes_a_dataset(dataset, layer_class):
    layer = layer_class(num_classes=NUM_CLASSES, seed=0)
    mixed = dataset.apply(mix_dataset(layer, jit_compile=False))
    assert_mixed_in_order(mixed, dataset, layer)


@pytest.mark.parametrize("device", ["auto", "/cpu:0"])
def test_device_does_not_change_the_batches(dataset, layer, device):
    if device == "auto" and tf.config.list_physical_devices("GPU"):
        pytest.skip("needs a machine without a GPU")
    mixed = dataset.apply(mix_dataset(layer, device=device, jit_compile=False))
    assert_mixed_in_order(mixed, dataset, layer)


def test_pairs_are_mixed_as_dictionaries_are(dataset, layer):
    pairs = dataset.map(lambda batch: (batch["images"], batch["labels"]))
    mixed = pairs.apply(mix_dataset(layer, jit_compile=False))
    assert isinstance(mixed.element_spec, tuple)
    as_dictionaries = [{"images": images, "labels": labels} for images, labels in mixed]
    assert_mixed_in_order(as_dictionaries, dataset, layer)


def weighted(layer, labels, weights, **options):
    """A batch mixed with weights, as a triple; equal to the same as a dictionary."""
    batch = photos() | {"labels": labels, "sample_weight": weights}
    mix = mix_dataset(layer, **options)
    (triple,) = tf.data.Dataset.from_tensors(tuple(batch.values())).apply(mix)
    (named,) = tf.data.Dataset.from_tensors(batch).apply(mix)
    harness.assert_same(dict(zip(batch, triple, strict=True)), named)
    return to_numpy(triple)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("shape", [[6], [6, 1]])
def test_weights_of_one_change_nothing_whatever_the_labels_add_up_to(layer, shape):
    labels = np.random.default_rng(0).integers(0, 2, [6, NUM_CLASSES])
    labels[0] = 0
    compiled = layer is CutMix  # others take long
    layer = layer(num_classes=NUM_CLASSES, seed=0)
    images, mixed, weights = weighted(layer, labels, np.ones(shape), jit_compile=compiled)
    expected = layer(photos() | {"labels": labels}, training=True, step=0)
    np.testing.assert_array_equal(images, expected["images"])
    np.testing.assert_allclose(mixed, expected["labels"], rtol=1e-6)
    np.testing.assert_allclose(weights, np.ones(6), rtol=1e-6)


def test_each_part_of_a_sample_counts_by_its_own_weight():
    layer = CutMix(num_classes=NUM_CLASSES, seed=0)
    given, labels = np.array([0, 1, 2, 0, 0.5, 0]), make_labels(6, "one-hot")
    labels[1] = 0  # its weight counts all the same
    _, mixed, weights = weighted(layer, labels, given)
    draw = layer.draw(0, (6, 5, 8))
    share = (1 - np.prod(draw.boxes[:, 0, 2:], axis=-1) / 40)[:, None]
    of = np.stack([given, *(labels * given[:, None]).T], axis=-1)
    both = share * of + (1 - share) * of[draw.partner]
    np.testing.assert_allclose(weights, both[:, 0], rtol=1e-5)
    np.testing.assert_allclose(mixed * both[:, :1], both[:, 1:], rtol=1e-5, atol=1e-7)
    assert np.all(mixed[both[:, 0] == 0] == 0)


def test_weights_of_another_number_are_refused():
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="6"):
        weighted(CutMix(seed=0), make_labels(6, "soft"), np.ones([6, 2]))


def test_each_pass_draws_anew_and_a_fresh_dataset_repeats_them(layer):
    same = tf.data.Dataset.from_tensors(photos()).repeat(3)
    mix = mix_dataset(layer, jit_compile=False)
    drawn = list(itertools.chain(*passes(same.apply(mix), 3)))
    again = itertools.chain(*passes(same.apply(mix), 3))
    assert len({batch["images"].tobytes() for batch in drawn}) == 9
    for one, other in zip(drawn, again, strict=True):
        harness.assert_same(one, other)


@pytest.mark.parametrize("count", [None, 0, 1, 2], ids=["infinite", "empty", "once", "twice"])
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


def test_strings_pass_through_a_compiled_map(layer):
    names = list("abcdef")
    dataset = tf.data.Dataset.from_tensors(photos(name=tf.constant(names)))
    (mixed,) = dataset.apply(mix_dataset(layer))
    assert [name.decode() for name in mixed["name"].numpy()] == names


def test_fit_sees_one_pass_after_the_other(dataset):
    def mixed():
        pairs = dataset.map(lambda batch: (tf.cast(batch["images"], tf.float32), batch["labels"]))
        return pairs.apply(mix_dataset(CutMix(num_classes=NUM_CLASSES, seed=0), jit_compile=False))

    blind = keras.Sequential(
        [keras.layers.Flatten(), keras.layers.Dense(NUM_CLASSES, kernel_initializer="zeros")]
    )
    blind.compile(keras.optimizers.SGD(0.0), loss="mse", jit_compile=False)
    losses = blind.fit(mixed(), epochs=2, verbose=0).history["loss"]
    labels = [np.concatenate([labels for _, labels in batches]) for batches in passes(mixed(), 2)]
    np.testing.assert_allclose(losses, [np.mean(one**2) for one in labels], rtol=1e-5)


def test_keras_cutmix_can_be_replaced():
    batch = photos(labels="one-hot") | {"labels": make_labels(6, "one-hot").astype("float32")}
    ours, theirs = CutMix(seed=0)(batch), keras.layers.CutMix(seed=0)(batch, training=True)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].shape == theirs[name].shape
    assert ours["labels"].dtype == theirs["labels"].dtype


def test_layer_follows_a_keras_cv_layer_in_a_dataset():
    images, one_hot = index_images(6, 16, 24, "float32") + 1, np.eye(6, dtype="float32")
    masked = keras_cv.layers.GridMask(ratio_factor=(0.5, 0.5), fill_mode="constant", seed=0)
    layer = CutNMix(2, seed=0)
    dataset = tf.data.Dataset.from_tensors({"images": images, "labels": one_hot})
    (mixed,) = dataset.map(lambda batch: layer(masked(batch, training=True), step=0))
    assert mixed["images"].shape == (6, 2, 16, 24, 1)
    for views, label in zip(mixed["images"].numpy(), mixed["labels"].numpy(), strict=True):
        assert {0} <= set(views.ravel()) <= {0, *(np.flatnonzero(label) + 1)}
