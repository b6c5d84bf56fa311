"""Every kind of draw follows the step and the seed by itself, and views keep their labels."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from tiny_peers import CLASSES, tiny_peer

from tf_cutnmix import CropAndFlip, CutMix, CutNMix, MixUp, OnlineDistiller, augment, draws, mixing
from tf_cutnmix.draws import Stream
from tf_cutnmix.mixing import FMix

# So sharp a distribution that every ratio is 1/2, and all boxes and masks are of one size.
ALWAYS_HALF = 1e12
LATE = 2**40


def sampled(seed, step):
    return mixing.sample(seed, step, (40, 64, 64), alpha=ALWAYS_HALF, num_peers=2)


@functools.cache
def sampled_mask(seed, step):
    return mixing.sample_mask(seed, step, (40, 8, 8), alpha=ALWAYS_HALF)


def ratios(seed, step):
    return mixing.sample(seed, step, (40, 4, 4), alpha=1.0, num_peers=1).ratio


def ratios_of_masks(seed, step):
    return mixing.sample_mask(seed, step, (40, 4, 4), alpha=1.0).ratio


def partners(seed, step):
    return sampled(seed, step).partner


def partners_of_masks(seed, step):
    return sampled_mask(seed, step).partner


def corners(seed, step):
    boxes = sampled(seed, step).boxes
    assert set(np.ravel(boxes[..., 2:])) == {45}
    return boxes[..., :2]


def spread_corners(seed, step):
    settings = {"alpha": ALWAYS_HALF, "num_peers": 2, "regions": "spread"}
    return mixing.sample(seed, step, (40, 64, 64), **settings).boxes[..., :2]


def pasted_masks(seed, step):
    mask = sampled_mask(seed, step).mask
    assert set(np.sum(mask, axis=(1, 2))) == {32}
    return mask


def crops(seed, step):
    """Where one bright pixel in the middle of black images went."""
    images = np.zeros([40, 9, 9, 1], "uint8")
    images[:, 4, 4] = 255
    moved = CropAndFlip(crop=4 / 9, flip=False, seed=seed)(images, step=step)
    return np.argmax(np.reshape(moved, [40, 81]), axis=-1)


def flips(seed, step):
    images = np.tile(np.uint8([[[[1], [2]]]]), [40, 1, 1, 1])
    return CropAndFlip(crop=0, seed=seed)(images, step=step)[:, 0, 0, 0]


@functools.cache
def transform_of(make, *operations, **settings):
    """An augmentation with other operations in the place of Keras'."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augment, "_operations", lambda *_: list(operations))
        return make(**settings)


def transformed(transform, seed, step):
    """What an augmentation makes of 40 images of two numbers 0."""
    return np.reshape(transform(tf.zeros([40, 1, 1, 2]), seed, step), [40, 2])


def numbered(k):
    """An operation that writes its number, and 1 beside it."""
    return lambda images, first: tf.ones_like(images) * tf.constant([float(k), 1.0])


def counting(images, first):
    """Counts how often it is run, beside a 1."""
    return tf.stack([images[..., 0] + 1, tf.ones_like(images[..., 1])], axis=-1)


def telling(images, first):
    """Tells what its strengths are drawn from, beside a 1."""
    ones = tf.ones_like(images)
    return ones * tf.stack([tf.cast((first[0] + first[1]) % 2**16, tf.float32), 1.0])


def chain_of(mixed):
    """What came out of a single chain: the weight of the image multiplies both numbers."""
    return np.round(mixed[:, 0] / mixed[:, 1])


NUMBERED = [numbered(k) for k in range(5)]
ONE_OF_ONE = {"num_chains": 1, "chain_depth": 1}


def randaugment_operations(seed, step):
    return transformed(transform_of(augment.randaugment, *NUMBERED, num_ops=1), seed, step)


def augmix_operations(seed, step):
    return chain_of(transformed(transform_of(augment.augmix, *NUMBERED, **ONE_OF_ONE), seed, step))


def augmix_depths(seed, step):
    transform = transform_of(augment.augmix, counting, num_chains=1, chain_depth=5)
    return chain_of(transformed(transform, seed, step))


def augmix_weights(seed, step):
    return transformed(transform_of(augment.augmix, NUMBERED[1], **ONE_OF_ONE), seed, step)


def randaugment_strengths(seed, step):
    return transformed(transform_of(augment.randaugment, telling, num_ops=1), seed, step)


def augmix_strengths(seed, step):
    return chain_of(transformed(transform_of(augment.augmix, telling, **ONE_OF_ONE), seed, step))


DRAWN = [
    *(ratios, ratios_of_masks, partners, partners_of_masks, corners, spread_corners, pasted_masks),
    *(crops, flips, randaugment_operations, augmix_operations, augmix_depths, augmix_weights),
    *(randaugment_strengths, augmix_strengths),
]
FEW_VALUES = [randaugment_operations, augmix_operations, augmix_depths]


def different(results):
    return len({np.asarray(result).tobytes() for result in results})


@pytest.mark.parametrize("drawn", DRAWN, ids=lambda drawn: drawn.__name__)
def test_each_kind_of_draw_changes_with_the_step_and_with_the_seed(drawn):
    later = [0, 1, LATE] if drawn not in FEW_VALUES else range(12)
    least = len(later) if drawn not in FEW_VALUES else 3
    assert different([drawn(0, step) for step in later]) >= least
    assert different([drawn(seed, 0) for seed in later]) >= least


@pytest.mark.parametrize("size", [2**16, 2**20])
def test_a_large_permutation_rises_as_often_as_it_falls(size):
    # Keys of few bits would come in ties, and a sort leaves those in rising order.
    partner = draws.permutation(draws.key(0, 0, Stream.PARTNER), size).numpy()
    rises = np.sum(partner[1:] > partner[:-1])
    mean, deviation = (size - 1) / 2, np.sqrt((size + 1) / 12)
    assert abs(rises - mean) < 5 * deviation


# Views of each peer's own


@pytest.fixture
def eagerly():
    """Compiles nothing, for views are the same and sooner there."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def distiller_of(count, layer):
    settings = {"num_peers": count} if layer is CutNMix else {}
    mix = layer(alpha=1.0, num_classes=CLASSES, seed=4, **settings) if layer else None
    return OnlineDistiller(
        [tiny_peer() for _ in range(count)],
        mix,
        "independent",
        augment=CropAndFlip(crop=0, flip=False, seed=0),
        own_views=True,
    )


@pytest.mark.parametrize("layer", [None, CutNMix, CutMix, MixUp, FMix])
@pytest.mark.parametrize("count", [2, 3])
def test_every_view_of_each_peers_own_holds_what_its_label_says(count, layer, eagerly):
    # Images of one value each, which nothing but the class tells: the mean of a view is the
    # mean of the values by its label.
    values = np.array([3, 17, 40, 92, 141, 180, 203, 214, 237, 255], "float32")
    labels = np.array([7, 2, 9, 0, 4])
    images = values[labels][:, None, None, None] * np.ones([1, 8, 8, 3], "float32")
    views, mixed, _ = distiller_of(count, layer).make_views(
        tf.constant(images), tf.constant(labels), tf.constant(1, tf.int64)
    )
    assert len(views) == count
    assert layer is None or not np.allclose(mixed, np.eye(CLASSES)[labels])
    for view in views:
        expected = np.asarray(mixed) @ values
        np.testing.assert_allclose(np.mean(view, axis=(1, 2, 3)), expected, rtol=1e-5)
