"""Each kind of draw follows the step and the seed."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tf_cutnmix import CropAndFlip
from tf_cutnmix.mixing import augment, sampling

# So sharp a distribution that every ratio is 1/2, and all boxes and masks are of one size.
ALWAYS_HALF = 1e12
LATE = 2**40


def sampled(seed, step):
    return sampling.sample(seed, step, (40, 64, 64), alpha=ALWAYS_HALF, num_peers=2)


@functools.cache
def sampled_mask(seed, step):
    return sampling.sample_mask(seed, step, (40, 8, 8), alpha=ALWAYS_HALF)


def ratios(seed, step):
    return sampling.sample(seed, step, (40, 4, 4), alpha=1.0, num_peers=1).ratio


def ratios_of_masks(seed, step):
    return sampling.sample_mask(seed, step, (40, 4, 4), alpha=1.0).ratio


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
    return sampling.sample(seed, step, (40, 64, 64), **settings).boxes[..., :2]


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
