"""Batches of images, whose order is a function of (seed, epoch) or (seed, batch) alone."""

import functools

import numpy as np
import tensorflow as tf

from tf_cutnmix.data.images import Images


def shuffled_batches(
    images: Images,
    batch_size: int,
    *,
    seed: int,
    first_epoch: int = 0,
    balanced: bool = False,
) -> tf.data.Dataset:
    """Endless training batches `([B, H, W, 3] uint8, [B] int32)`, of no more than all images.

    The order within epoch e is a function of (seed, e): a run that starts at `first_epoch`
    sees what a run from the start would see from there on. The images that do not fill a batch are
    left out, different ones in each epoch. With `balanced` an epoch shows all classes equally
    often, up to one image: the images of small classes several times, of large classes a part that
    changes with the epoch.
    """
    steps = len(images.pixels) // batch_size

    def order(epoch: np.ndarray) -> np.ndarray:
        random = np.random.default_rng((seed, int(epoch)))
        positions = random.permutation(len(images.pixels))
        if balanced:
            positions = random.permutation(_balanced(positions, images.labels))
        return positions[: steps * batch_size].reshape(steps, batch_size)

    def epoch_of_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        positions = tf.numpy_function(order, [epoch], tf.int64)
        return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(positions, [steps, batch_size]))

    positions = tf.data.Dataset.counter(first_epoch).flat_map(epoch_of_batches)
    return _gather(images, positions)


def endless_batches(
    images: Images, batch_size: int, *, seed: int, first_batch: int = 0
) -> tf.data.Dataset:
    """Endless batches `[B, H, W, 3]` uint8: all images are shown before one comes again.

    What batch i shows is a function of (seed, i), of any number of images; the first batch is that
    of the number `first_batch`.
    """
    count = len(images.pixels)

    @functools.lru_cache(maxsize=2)
    def order(turn: int) -> np.ndarray:
        # Not the numbers of `shuffled_batches`.
        return np.random.default_rng((seed, turn, 1)).permutation(count)

    def shown(batch: np.ndarray) -> np.ndarray:
        turns, places = np.divmod(int(batch) * batch_size + np.arange(batch_size), count)
        return np.array([order(t)[p] for t, p in zip(turns.tolist(), places, strict=True)])

    def positions(batch: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(shown, [batch], tf.int64), [batch_size])

    numbers = tf.data.Dataset.counter(first_batch)
    return _gather(images, numbers.map(positions)).map(lambda pixels, _: pixels)


def ordered_batches(images: Images, batch_size: int) -> tf.data.Dataset:
    """All images once, in their order, the last batch as small as it comes."""
    return _gather(images, tf.data.Dataset.range(len(images.pixels)).batch(batch_size))


def _balanced(positions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """As many positions, each class equally often, in the order within the class."""
    own = [positions[labels[positions] == label] for label in np.unique(labels)]
    shares = np.diff(np.linspace(0, len(positions), len(own) + 1).round().astype(int))
    return np.concatenate([np.resize(p, share) for p, share in zip(own, shares, strict=True)])


def _gather(images: Images, positions: tf.data.Dataset) -> tf.data.Dataset:
    def rows(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels, labels = tf.numpy_function(
            lambda at: (images.pixels[at], images.labels[at]), [batch], [tf.uint8, tf.int32]
        )
        pixels.set_shape([*batch.shape, *images.pixels.shape[1:]])
        labels.set_shape(batch.shape)
        return pixels, labels

    batches = positions.map(rows, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batches.prefetch(tf.data.AUTOTUNE)
