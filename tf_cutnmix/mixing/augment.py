"""Random crops, resized crops and mirror images of whole batches, inside XLA or out of it;
augmentations of Keras and keras-cv, out of it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_cutnmix.errors import unknown
from tf_cutnmix.mixing import draws

# From float32 images [B, H, W, C] in 0..255, seed and step to such images.
Transform = Callable[[tf.Tensor, int, Any], tf.Tensor]

# Operations of Keras.
_SHAPES_AND_TONES = (
    *("random_shear", "random_translation", "random_rotation", "random_posterization"),
    *("solarization", "auto_contrast", "equalization"),
)
_COLOURS = ("random_brightness", "random_color_degeneration", "random_contrast", "random_sharpness")


def shift(images: tf.Tensor, offsets: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
    """Move each image by whole pixels, zeros coming in, and then mirror it if asked.

    Args:
      images: `[B, H, W, C]`, of any dtype, which they keep.
      offsets: `[B, 2]` int32, how many pixels the window moves down and to the right.
      mirrored: `[B]` bool.
    """
    height, width = images.shape[1:3]
    rows = tf.range(height) + offsets[:, :1]
    across = tf.range(width)
    columns = tf.where(mirrored[:, None], width - 1 - across, across) + offsets[:, 1:]
    seen_rows, seen_columns = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    seen = seen_rows[:, :, None, None] & seen_columns[:, None, :, None]
    moved = tf.gather(images, tf.clip_by_value(rows, 0, height - 1), axis=1, batch_dims=1)
    moved = tf.gather(moved, tf.clip_by_value(columns, 0, width - 1), axis=2, batch_dims=1)
    return tf.where(seen, moved, tf.zeros([], images.dtype))


class _Moved(draws.SteppedLayer):
    """Images that are moved at random while training, and one in two then mirrored."""

    def __init__(self, flip: bool, seed: int | None, **kwargs: Any) -> None:
        super().__init__(seed, **kwargs)
        self.flip = flip

    def call(
        self, images: tf.Tensor, training: bool = True, step: tf.Tensor | int | None = None
    ) -> tf.Tensor:
        if not training:
            return images
        step = self.next_step(step)
        key = draws.key(self.seed, step, draws.Stream.FLIP)
        mirrored = tf.equal(draws.integers(key, [tf.shape(images)[0]], 2), 0) & self.flip
        return self.move(images, step, mirrored)

    def move(self, images: tf.Tensor, step: tf.Tensor | int, mirrored: tf.Tensor) -> tf.Tensor:
        """Images `[B, H, W, C]` as a step moves them; those of `mirrored` `[B]` are mirrored."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "flip": self.flip}


@keras.saving.register_keras_serializable("tf_cutnmix")
class CropAndFlip(_Moved):
    """Random crops of the zero-padded image, then mirror images of one in two (He et al. 2015).

    Args:
      crop: padding of each side as a part of it, in [0, 1): 0.125 is 4 pixels of 32.
      flip: whether to mirror.
      seed: draws are a function of (seed, step).

    Call it with images `[B, H, W, C]` of any dtype, which they keep, and of known H and W.
    """

    def __init__(
        self, crop: float = 0.125, flip: bool = True, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(flip, seed, **kwargs)
        if not 0 <= crop < 1:
            raise ValueError(f"crop must be at least 0 and below 1. Received: crop={crop}")
        self.crop = crop

    def move(self, images: tf.Tensor, step: tf.Tensor | int, mirrored: tf.Tensor) -> tf.Tensor:
        padding = tf.constant([round(self.crop * side) for side in images.shape[1:3]])
        key = draws.key(self.seed, step, draws.Stream.CROP)
        offsets = draws.integers(key, [tf.shape(images)[0], 2], 2 * padding + 1) - padding
        return shift(images, offsets, mirrored)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "crop": self.crop}


def stretch(
    images: tf.Tensor, corners: tf.Tensor, sizes: tf.Tensor, mirrored: tf.Tensor
) -> tf.Tensor:
    """Make a box of each image as large as the image, bilinearly, and then mirror it if asked.

    Args:
      images: `[B, H, W, C]`, of any dtype, which they keep; whole numbers are rounded to nearest.
      corners: `[B, 2]` int32, row and column of each box's upper left pixel.
      sizes: `[B, 2]` int32, height and width of each box, which lies in its image.
      mirrored: `[B]` bool.
    """
    pixels = tf.cast(images, tf.float32)
    for axis, length in enumerate(images.shape[1:3]):
        places = tf.range(length, dtype=tf.int64)[tf.newaxis]
        if axis == 1:
            places = tf.where(mirrored[:, tf.newaxis], length - 1 - places, places)
        first, size = corners[:, axis, tf.newaxis], sizes[:, axis, tf.newaxis]
        # In 256ths of a pixel: of pixels up to 255 all products and sums below are then whole
        # numbers that float32 holds, and rounding is the same everywhere.
        size = tf.cast(size, tf.int64)
        middles = tf.clip_by_value((2 * places + 1) * size * 128 // length - 128, 0, 256 * size)
        low = tf.minimum(middles // 256, size - 1)
        high = tf.minimum(low + 1, size - 1)
        shape = [-1, length, 1, 1] if axis == 0 else [-1, 1, length, 1]
        part = tf.reshape(tf.cast(middles % 256, tf.float32), shape)
        before, after = (
            tf.gather(pixels, first + tf.cast(place, tf.int32), axis=1 + axis, batch_dims=1)
            for place in (low, high)
        )
        pixels = before * (256 - part) + after * part
    pixels = tf.ensure_shape(pixels / 2**16, images.shape)
    return tf.cast(tf.round(pixels) if images.dtype.is_integer else pixels, images.dtype)


@functools.lru_cache
def box_sizes(height: int, width: int) -> np.ndarray:
    """Equally likely heights and widths of boxes for random resized crops, `[N, 2]` int32.

    Areas of 8 to 100 % of the image, uniform; ratios of sides of 3/4 to 4/3 times the image's own,
    uniform in their logarithm; of these, boxes that the image holds.
    """
    areas = np.linspace(0.08, 1.0, 65)
    ratios = np.exp(np.linspace(-1, 1, 33) * np.log(4 / 3))
    area, ratio = np.meshgrid(areas, ratios)
    parts = np.stack([np.sqrt(area / ratio), np.sqrt(area * ratio)], axis=-1).reshape(-1, 2)
    sizes = np.round(parts[(parts <= 1).all(axis=-1)] * [height, width])
    return np.maximum(sizes, 1).astype(np.int32)


@keras.saving.register_keras_serializable("tf_cutnmix")
class ResizedCrop(_Moved):
    """Random resized crops (Szegedy et al. 2015), then mirror images of one in two.

    A box of each image, of a size of `box_sizes` and in any place, is made as large as the image.

    Args:
      flip: whether to mirror.
      seed: draws are a function of (seed, step).

    Call it with images `[B, H, W, C]` of any dtype, which they keep, and of known H and W.
    """

    def __init__(self, flip: bool = True, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(flip, seed, **kwargs)

    def move(self, images: tf.Tensor, step: tf.Tensor | int, mirrored: tf.Tensor) -> tf.Tensor:
        batch, (height, width) = tf.shape(images)[0], images.shape[1:3]
        known = box_sizes(height, width)
        size_key = draws.key(self.seed, step, draws.Stream.CROP_SIZE)
        sizes = tf.gather(tf.constant(known), draws.integers(size_key, [batch], len(known)))
        crop_key = draws.key(self.seed, step, draws.Stream.CROP)
        corners = draws.integers(crop_key, [batch, 2], tf.constant([height, width]) - sizes + 1)
        return stretch(images, corners, sizes, mirrored)


def randaugment(factor: float = 0.5, num_ops: int = 2) -> Transform:
    """RandAugment (Cubuk et al. 2020): operations one after the other, of Keras' strengths.

    The operations are drawn for the batch, their strengths for each sample, up to `factor`, as of
    `keras.layers.RandAugment`, which computes all of its 11 operations each time.
    """
    operations = _operations(factor, _SHAPES_AND_TONES + _COLOURS)
    operate = _switch(operations)

    def transform(images: tf.Tensor, seed: int, step: Any) -> tf.Tensor:
        key = draws.key(seed, step, draws.Stream.OPERATION)
        chosen = draws.integers(key, [num_ops], len(operations))
        for one, first in zip(tf.unstack(chosen), _firsts(seed, step, num_ops), strict=True):
            images = operate(one, images, first)
        return images

    return transform


def augmix(factor: float = 0.3, num_chains: int = 3, chain_depth: int = 3) -> Transform:
    """AugMix (Hendrycks et al. 2020): chains of operations, mixed with the image.

    `m x + (1 - m) sum_i w_i chain_i(x)`, `w` of Dirichlet(1, ..., 1) and `m` of Beta(1, 1) for
    each sample; each chain is 1 to `chain_depth` operations, drawn for the batch, their
    strengths for each sample. The operations are those of `keras.layers.AugMix`, which chooses
    them when it is traced and keeps them for the whole run.
    """
    operations = [lambda images, first: images, *_operations(factor, _SHAPES_AND_TONES)]
    operate = _switch(operations)
    places = [num_chains, chain_depth]

    def transform(images: tf.Tensor, seed: int, step: Any) -> tf.Tensor:
        key = functools.partial(draws.key, seed, step)
        chosen = 1 + draws.integers(key(draws.Stream.OPERATION), places, len(operations) - 1)
        depths = 1 + draws.integers(key(draws.Stream.DEPTH), [num_chains, 1], chain_depth)
        chosen = tf.where(tf.range(chain_depth) < depths, chosen, 0)
        firsts = iter(_firsts(seed, step, num_chains * chain_depth))
        chains = []
        for chain in tf.unstack(chosen):
            mixed = images
            for one in tf.unstack(chain):
                mixed = operate(one, mixed, next(firsts))
            chains.append(mixed)

        shape = [1 + num_chains, tf.shape(images)[0], 1, 1, 1]
        levels = draws.integers(key(draws.Stream.WEIGHT), shape, draws.LEVELS)
        uniform = (tf.cast(levels, tf.float32) + 0.5) / draws.LEVELS
        kept, exponential = uniform[0], -tf.math.log(uniform[1:])
        weights = exponential / tf.reduce_sum(exponential, axis=0)
        return kept * images + (1 - kept) * tf.reduce_sum(weights * tf.stack(chains), axis=0)

    return transform


def gridmask() -> Transform:
    """GridMask (Chen et al. 2020) of keras-cv: a rotated grid of black squares on each image.

    Every draw is made for each sample; the squares' side is half of the grid's unit. The layer
    keeps its generators' states in variables, which are set from (seed, step) before each call:
    calls must not run in parallel, as in a parallel `tf.data` map.
    """
    # Imported for this augmentation alone: it takes seconds.
    import keras_cv

    # With equal bounds the ratio is a constant; drawn, it would come from no generator.
    layer = keras_cv.layers.GridMask(ratio_factor=(0.5, 0.5), seed=0, dtype="float32")
    layer.random_rotate.dtype_policy = "float32"
    generators = [layer._random_generator, layer.random_rotate._random_generator]
    # As a function it rounds eagerly as in a graph.
    mask = tf.function(functools.partial(layer, training=True), autograph=False)

    def transform(images: tf.Tensor, seed: int, step: Any) -> tf.Tensor:
        for generator, first in zip(generators, _firsts(seed, step, 2), strict=True):
            generator.reset_from_key_counter(first[0], tf.stack([0, first[1]]))
        return mask(images)

    return transform


_TRANSFORMS: dict[str, Callable[[], Transform]] = {
    "augmix": augmix,
    "randaugment": randaugment,
    "gridmask": gridmask,
}
AUGMENTATIONS = ("none", "photo", *_TRANSFORMS)


@keras.saving.register_keras_serializable("tf_cutnmix")
class Augment(CropAndFlip):
    """Crops and mirror images, then one of the augmentations of this module.

    Its draws are a function of (seed, step) too, equal in eager execution and in a graph. XLA
    has no kernel for shears, translations and rotations, so none of the augmentations compiles.

    Args, beside those of `CropAndFlip`:
      augmentation: a name of `AUGMENTATIONS` but "none" and "photo".

    Call it with images `[B, H, W, C]` in 0..255 of 1 or 3 channels, of any dtype, which they
    keep: whole numbers are rounded to nearest.

    Raises:
      InputError: there is no such augmentation.
    """

    def __init__(self, augmentation: str, crop: float = 0.125, *args: Any, **kwargs: Any) -> None:
        super().__init__(crop, *args, **kwargs)
        if augmentation not in _TRANSFORMS:
            raise unknown("augmentation", augmentation, _TRANSFORMS)
        self.supports_jit = False
        self.augmentation = augmentation
        self.transform = _TRANSFORMS[augmentation]()

    def move(self, images: tf.Tensor, step: tf.Tensor | int, mirrored: tf.Tensor) -> tf.Tensor:
        moved = super().move(images, step, mirrored)
        changed = self.transform(tf.cast(moved, tf.float32), self.seed, step)
        changed = tf.clip_by_value(tf.ensure_shape(changed, images.shape), 0, 255)
        return tf.cast(tf.round(changed) if images.dtype.is_integer else changed, images.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "augmentation": self.augmentation}


def build(
    name: str, *, crop: float, flip: bool, seed: int | None = None
) -> CropAndFlip | ResizedCrop:
    """The layer of a name of `AUGMENTATIONS`: "none" for crops and mirror images alone, "photo" for
    random resized crops in their place.

    Raises:
      InputError: there is no such augmentation.
    """
    if name not in AUGMENTATIONS:
        raise unknown("--augment", name, AUGMENTATIONS)
    if name == "none":
        return CropAndFlip(crop, flip, seed)
    if name == "photo":
        return ResizedCrop(flip, seed)
    return Augment(name, crop, flip, seed)


class _Seeds(keras.random.SeedGenerator):
    """Seeds for Keras' random functions that count from a tensor, without a variable."""

    def __init__(self, first: tf.Tensor) -> None:
        self.first = first
        self.drawn = 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        self.drawn += 1
        return tf.stack([self.first[0], self.first[1] + self.drawn])


def _firsts(seed: int, step: Any, number: int) -> list[tf.Tensor]:
    """The seeds `[2]` int64 from which as many independent generators count."""
    drawn = draws.integers(draws.key(seed, step, draws.Stream.STRENGTH), [number, 2], 2**31)
    return tf.unstack(tf.cast(drawn, tf.int64))


def _operations(factor: float, names: Sequence[str]) -> list[Callable]:
    """Keras' operations: functions of float32 images and the seeds that they draw from."""
    # Not an attribute of our layer: Keras would save the generators, which are not used.
    policy = keras.layers.RandAugment(value_range=(0, 255), factor=factor, dtype="float32")

    def operate(layer: keras.layers.Layer, images: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        strengths = layer.get_random_transformation(images, training=True, seed=_Seeds(first))
        return layer.transform_images(images, strengths)

    return [functools.partial(operate, getattr(policy, name)) for name in names]


def _switch(operations: Sequence[Callable]) -> Callable:
    """A function of a number, images and a seed that runs the operation of that number."""

    # A function of its own is traced once for all its calls, and rounds eagerly as in a graph.
    @tf.function(autograph=False)
    def operate(chosen: tf.Tensor, images: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        return tf.switch_case(chosen, [functools.partial(one, images, first) for one in operations])

    return operate
