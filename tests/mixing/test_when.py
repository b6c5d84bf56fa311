"""Samples that are left unmixed, by chance or from a step on."""

import numpy as np
import pytest
import tensorflow as tf

from tests.mixing.batches import LAYERS, index_images
from tf_cutnmix.mixing import draws

COUNT = 400


def mix(layer, step=0, **settings):
    layer = layer(alpha=1.0, num_classes=COUNT, seed=0, **settings)
    images = index_images(COUNT, 6, 5, "float32")
    result = layer({"images": images, "labels": np.arange(COUNT)}, step=step)
    views = result["images"].numpy().reshape(COUNT, -1, 6, 5, 1)
    return views, result["labels"].numpy()


def is_unmixed(views):
    own = np.arange(COUNT, dtype="float32")[:, None, None, None, None]
    return np.all(views == own, axis=(1, 2, 3, 4))


@pytest.mark.parametrize("layer", LAYERS)
def test_about_the_given_part_is_mixed_as_without_it_and_the_rest_keeps_its_label(layer):
    all_views, all_labels = mix(layer)
    views, labels = mix(layer, probability=0.25)
    kept = np.all(labels == np.eye(COUNT, dtype="float32"), axis=1)
    # The standard deviation of the part is 0.022; few samples are mixed with themselves.
    assert 0.65 < kept.mean() < 0.86
    assert np.all(is_unmixed(views)[kept])
    np.testing.assert_array_equal(views[~kept], all_views[~kept])
    np.testing.assert_array_equal(labels[~kept], all_labels[~kept])


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    ("settings", "step", "mixes"),
    [
        ({"probability": 0.0}, 0, False),
        ({"until_step": 7}, 6, True),
        ({"until_step": 7}, 7, False),
        ({"until_step": 0}, 0, False),
    ],
    ids=str,
)
def test_nothing_is_mixed_at_probability_0_and_from_the_given_step_on(layer, settings, step, mixes):
    views, labels = mix(layer, step=step, **settings)
    if mixes:
        expected_views, expected_labels = mix(layer, step=step)
        np.testing.assert_array_equal(views, expected_views)
        np.testing.assert_array_equal(labels, expected_labels)
    assert np.all(is_unmixed(views)) != mixes
    assert np.array_equal(labels, np.eye(COUNT, dtype="float32")) != mixes


@pytest.mark.parametrize("layer", LAYERS)
def test_what_is_left_unmixed_has_ratio_1(layer):
    layer = layer(seed=0, probability=0.5)
    ratio = layer.draw(3, (COUNT, 4, 4)).ratio.numpy()
    assert 0.4 < np.mean(ratio == 1) < 0.6


@pytest.mark.parametrize("layer", LAYERS)
def test_which_samples_are_mixed_follows_seed_and_step_alike_everywhere(layer):
    layer = layer(seed=0, probability=0.5)

    def unmixed(step):
        return layer.draw(step, (COUNT, 4, 4)).ratio == 1

    found = [unmixed(tf.constant(step)) for step in (3, 4)]
    assert not np.array_equal(*found)
    for jit in (False, True):
        compiled = tf.function(unmixed, jit_compile=jit)
        np.testing.assert_array_equal(compiled(tf.constant(3)), found[0])


@pytest.mark.parametrize(
    "settings", [{"probability": -0.1}, {"probability": 1.1}, {"until_step": -1}], ids=str
)
@pytest.mark.parametrize("layer", LAYERS)
def test_settings_out_of_range_are_refused(layer, settings):
    (name,) = settings
    with pytest.raises(ValueError, match=name):
        layer(**settings)


@pytest.mark.parametrize("layer", LAYERS)
def test_settings_are_saved(layer):
    settings = {"probability": 0.5, "until_step": 3}
    again = layer.from_config(layer(**settings).get_config())
    assert {name: getattr(again, name) for name in settings} == settings


@pytest.mark.parametrize("seed", [0, 5, 2**55 - 1])
def test_a_seed_may_be_a_tensor(seed):
    for held in (tf.constant(seed, tf.int64), tf.Variable(seed, dtype=tf.int64)):
        found = draws.key(held, 3, draws.Stream.FLIP)
        np.testing.assert_array_equal(found, draws.key(seed, 3, draws.Stream.FLIP))
    assert int(draws.key(seed, 3, draws.Stream.FLIP)[0]) == seed * 256 + draws.Stream.FLIP
