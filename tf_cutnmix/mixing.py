"""Mixed samples: Cut^nMix, CutMix (Yun et al. 2019) and MixUp (Zhang et al. 2018).

Sampling is apart from applying. `sample` draws a `Draw` from (seed, step); `paste`, `blend`
and `mix_labels` are pure functions of images, labels and a draw.

Cut^nMix of `n` peers ("Mixed Sample Augmentation for Online Distillation", Shen et al. 2022,
arXiv 2206.12370; the README says what is our reading): all peers share the ratio, the
partner and the size of the box, so they share the label; each has its box in another place.
"""

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import scipy.special
import tensorflow as tf

from tf_cutnmix import draws
from tf_cutnmix.errors import unknown

_MIXED = ("images", "labels", "segmentation_masks")
_RATIOS = 2**16
_SPREAD_CANDIDATES = 8


class Draw(NamedTuple):
    """What was drawn for one batch of `B` images and `n` peers.

    Attributes:
      ratio: `[B]` float32 in [0, 1], Beta distributed: about how much of the image stays.
      partner: `[B]` int32, a permutation: the image that each one is mixed with.
      boxes: `[B, n, 4]` int32: top, left, height, width of the region that each peer sees
        of the partner. Boxes lie inside the image; those of one image are of one size.
    """

    ratio: tf.Tensor
    partner: tf.Tensor
    boxes: tf.Tensor


@functools.lru_cache
def beta_quantiles(alpha: float) -> np.ndarray:
    """The 2^16 equally likely ratios that stand for Beta(alpha, alpha), ascending, float32.

    They are the inverse CDF at (i + 1/2) / 2^16, so that a uniform integer draws a ratio, on
    any device and inside XLA, which has no sampler of its own for this distribution.
    """
    levels = (np.arange(_RATIOS) + 0.5) / _RATIOS
    quantiles = scipy.special.betaincinv(alpha, alpha, levels).astype(np.float32)
    quantiles.flags.writeable = False
    return quantiles


def sample(
    seed: int,
    step: tf.Tensor | int,
    shape: tuple[Any, Any, Any],
    *,
    alpha: float,
    num_peers: int,
    ratio_per: str = "sample",
    regions: str = "uniform",
) -> Draw:
    """Draw ratios, partners and boxes; equal in eager, graph and XLA.

    Args:
      seed: a Python integer.
      step: number of the batch, a scalar.
      shape: batch size, height and width, numbers or scalar tensors.
      alpha: of Beta(alpha, alpha), above 0.
      num_peers: `n`, boxes per image.
      ratio_per: "sample" or "batch".
      regions: "uniform" corners, or "spread": of 8 uniform sets of corners the one whose
        boxes overlap least (an extension; uniform boxes have a mean pair IoU near 1/2).
    """
    batch, height, width = shape
    level_key = draws.key(seed, step, draws.Stream.RATIO)
    level = draws.integers(level_key, [batch if ratio_per == "sample" else 1], _RATIOS)
    level = tf.broadcast_to(level, [batch])
    quantiles = beta_quantiles(alpha)
    # The distribution is symmetric: reversed, the table holds 1 - ratio in full precision.
    side = tf.gather(np.sqrt(quantiles[::-1]), level)
    size = tf.stack([_scaled(side, height), _scaled(side, width)], axis=-1)  # (B, 2)

    room = tf.stack([height, width]) - size + 1
    candidates = 1 if regions == "uniform" else _SPREAD_CANDIDATES
    corners = draws.integers(
        draws.key(seed, step, draws.Stream.CORNER),
        [batch, candidates, num_peers, 2],
        room[:, None, None, :],
    )
    overlap = _shared_pixels(corners, size)  # (B, candidates)
    best = tf.argmin(overlap, axis=-1, output_type=tf.int32)
    corners = tf.gather(corners, best, axis=1, batch_dims=1)  # (B, n, 2)
    sizes = tf.broadcast_to(size[:, None, :], tf.shape(corners))
    return Draw(
        ratio=tf.gather(quantiles, level),
        partner=draws.permutation(draws.key(seed, step, draws.Stream.PARTNER), batch),
        boxes=tf.concat([corners, sizes], axis=-1),
    )


def paste(images: tf.Tensor, draw: Draw) -> tf.Tensor:
    """Each peer's view: the partner's pixels inside the peer's box, the image's own outside.

    Args:
      images: `[B, H, W, ...]`, any dtype.
      draw: with boxes for `n` peers.

    Returns:
      `[B, n, H, W, ...]` of the same dtype, every value one of the input's, bit for bit.
    """
    inside = _inside(draw.boxes, *_sides(images))
    inside = tf.reshape(inside, tf.concat([tf.shape(inside), [1] * (len(images.shape) - 3)], 0))
    return tf.where(inside, tf.gather(images, draw.partner)[:, None], images[:, None])


def blend(images: tf.Tensor, draw: Draw) -> tf.Tensor:
    """`ratio * image + (1 - ratio) * partner`; whole-number dtypes are rounded to nearest.

    Args:
      images: `[B, ...]`, any dtype.
      draw: of which the boxes are not used.

    Returns:
      Images of the same shape and dtype.
    """
    dtype = images.dtype if images.dtype == tf.float64 else tf.float32
    values = tf.cast(images, dtype)
    ratio = tf.reshape(tf.cast(draw.ratio, dtype), [-1] + [1] * (len(images.shape) - 1))
    mixed = ratio * values + (1 - ratio) * tf.gather(values, draw.partner)
    return tf.cast(tf.round(mixed) if images.dtype.is_integer else mixed, images.dtype)


def mix_labels(
    labels: tf.Tensor, partner: tf.Tensor, own: tf.Tensor, whole: tf.Tensor
) -> tf.Tensor:
    """`(own * label + (whole - own) * partner's label) / whole`.

    Args:
      labels: `[B, K]` float32.
      partner: `[B]` int32.
      own: `[B]`, the part of the sample that stays, counted as `whole` is.
      whole: a scalar. Counts of pixels are exact in float32 up to 2^24 of them.
    """
    own = tf.cast(own, labels.dtype)[:, None]
    whole = tf.cast(whole, labels.dtype)
    return (own * labels + (whole - own) * tf.gather(labels, partner)) / whole


def soft_labels(labels: tf.Tensor, num_classes: int | None) -> tf.Tensor:
    """Labels `[B, K]` float32, from one-hot or soft ones or, given `num_classes`, integers `[B]`.

    Raises:
      ValueError: they are no such labels.
      tf.errors.InvalidArgumentError: a class number is out of range; not noticed under XLA.
    """
    received = f"Received: {labels.dtype.name} labels of shape {labels.shape}"
    if labels.shape.rank == 1 and labels.dtype.is_integer:
        if num_classes is None:
            raise ValueError(f"integer labels need num_classes. {received}")
        in_range = (labels >= 0) & (tf.cast(labels, tf.int64) < num_classes)
        message = f"labels must be from 0 to num_classes - 1 = {num_classes - 1}:"
        tf.debugging.Assert(tf.reduce_all(in_range), [message, labels])
        return tf.one_hot(tf.cast(labels, tf.int32), num_classes)
    if labels.shape.rank != 2 or labels.dtype in (tf.bool, tf.string):
        raise ValueError(
            "labels must be one-hot or soft [B, K], or integers [B] with num_classes given. "
            + received
        )
    if labels.shape[1] == 1 and num_classes != 1:
        raise ValueError(f"labels [B, 1] hold one class: drop the last axis. {received}")
    if num_classes is not None and labels.shape[1] not in (None, num_classes):
        raise ValueError(f"labels must have num_classes={num_classes} columns. {received}")
    return tf.cast(labels, tf.float32)


def cutnmix(
    images: tf.Tensor,
    labels: tf.Tensor,
    *,
    step: tf.Tensor | int,
    seed: int = 0,
    num_peers: int = 2,
    alpha: float = 1.0,
    num_classes: int | None = None,
    ratio_per: str = "sample",
    regions: str = "uniform",
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cut^nMix as a function; arguments and results as of the layer `CutNMix`.

    Returns:
      Images `[B, num_peers, H, W, C]` and labels `[B, K]` float32.
    """
    _check_settings(alpha, num_classes, ratio_per, num_peers, regions)
    batch = _checked({"images": images, "labels": labels}, num_classes)
    images, labels = batch["images"], batch["labels"]
    height, width = _sides(images)
    draw = sample(
        seed,
        step,
        (tf.shape(images)[0], height, width),
        alpha=alpha,
        num_peers=num_peers,
        ratio_per=ratio_per,
        regions=regions,
    )
    return paste(images, draw), _labels_by_area(labels, draw, height, width)


class Mixing(draws.SteppedLayer):
    """What the layers of this module share: a draw, and what it does to a dictionary.

    Call it with `{"images": [B, H, W, C], "labels": ...}`, images of any dtype, which they
    keep, labels one-hot or soft `[B, K]`, or integers `[B]` if `num_classes` is given;
    labels come back as `[B, K]` float32. `segmentation_masks` `[B, H, W]` or `[B, H, W, M]`
    are mixed as the images are; other entries pass through. `training=False` mixes nothing
    and returns the same shapes. Draws are a function of (seed, step); `step` is the number
    of the training call unless the caller passes it.

    Raises:
      ValueError: an argument is out of range, or a batch is not as described.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        num_classes: int | None = None,
        ratio_per: str = "sample",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, **kwargs)
        _check_settings(alpha, num_classes, ratio_per)
        self.alpha = float(alpha)
        self.num_classes = num_classes
        self.ratio_per = ratio_per

    def draw(self, step: tf.Tensor | int, shape: tuple[Any, Any, Any]) -> Draw:
        """The draw for one batch of shape `(B, H, W)`."""
        return sample(
            self.seed, step, shape, alpha=self.alpha, num_peers=1, ratio_per=self.ratio_per
        )

    def mix_images(self, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        """Images or masks, mixed as `draw` says."""
        raise NotImplementedError

    def mix_labels(self, labels: tf.Tensor, draw: Draw, height: int, width: int) -> tf.Tensor:
        """Labels `[B, K]` float32 that fit the mixed images."""
        return _labels_by_area(labels, draw, height, width)

    def unmixed(self, images: tf.Tensor) -> tf.Tensor:
        """Images or masks as they are, in the shape that mixed ones have."""
        return images

    def check(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The batch as tensors with labels `[B, K]` float32; `ValueError` if it is no such."""
        return _checked(batch, self.num_classes)

    def apply(self, batch: Mapping[str, tf.Tensor], draw: Draw) -> dict[str, tf.Tensor]:
        """A whole batch, mixed as `draw` says: a pure function of its arguments."""
        batch = self.check(batch)
        labels = self.mix_labels(batch["labels"], draw, *_sides(batch["images"]))
        pictures = {name: self.mix_images(batch[name], draw) for name in _pictures(batch)}
        return {**batch, **pictures, "labels": labels}

    def call(
        self,
        batch: Mapping[str, tf.Tensor],
        training: bool = True,
        step: tf.Tensor | int | None = None,
    ) -> dict[str, tf.Tensor]:
        batch = self.check(batch)
        if not training:
            return {**batch, **{name: self.unmixed(batch[name]) for name in _pictures(batch)}}
        images = batch["images"]
        draw = self.draw(self.next_step(step), (tf.shape(images)[0], *_sides(images)))
        return self.apply(batch, draw)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "num_classes": self.num_classes,
            "ratio_per": self.ratio_per,
        }


@keras.saving.register_keras_serializable("tf_cutnmix")
class CutNMix(Mixing):
    """Cut^nMix: one view of each mixed pair for every peer, the box in another place.

    ```python
    mix = CutNMix(num_peers=2, num_classes=10, seed=0)
    mixed = mix({"images": images, "labels": labels})
    mixed["images"].shape, mixed["labels"].shape  # (B, 2, H, W, C), (B, 10)
    ```

    Images come back as `[B, num_peers, H, W, C]`, masks likewise. All peers of a sample
    share its label, exact to the pixel: the box covers `h w / (H W)` of every view. With one
    peer this is CutMix.

    Args:
      num_peers: views per sample, 1 or more.
      alpha: ratios are drawn from Beta(alpha, alpha), above 0.
      num_classes: makes integer labels one-hot.
      ratio_per: one ratio per "sample" or per "batch".
      regions: "uniform" or "spread", see `sample`.
      seed: a whole number; drawn from Python's `random` if None.
    """

    def __init__(
        self,
        num_peers: int = 2,
        alpha: float = 1.0,
        num_classes: int | None = None,
        ratio_per: str = "sample",
        regions: str = "uniform",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(alpha, num_classes, ratio_per, seed, **kwargs)
        _check_settings(alpha, num_classes, ratio_per, num_peers, regions)
        self.num_peers = num_peers
        self.regions = regions

    def draw(self, step: tf.Tensor | int, shape: tuple[Any, Any, Any]) -> Draw:
        return sample(
            self.seed,
            step,
            shape,
            alpha=self.alpha,
            num_peers=self.num_peers,
            ratio_per=self.ratio_per,
            regions=self.regions,
        )

    def mix_images(self, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        return paste(images, draw)

    def unmixed(self, images: tf.Tensor) -> tf.Tensor:
        return tf.repeat(images[:, None], self.num_peers, axis=1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_peers": self.num_peers, "regions": self.regions}


@keras.saving.register_keras_serializable("tf_cutnmix")
class CutMix(Mixing):
    """CutMix with whole boxes and labels exact to the pixel; images stay `[B, H, W, C]`.

    Args:
      alpha: ratios are drawn from Beta(alpha, alpha), above 0.
      num_classes: makes integer labels one-hot.
      ratio_per: one ratio per "sample" or per "batch".
      seed: a whole number; drawn from Python's `random` if None.
    """

    def mix_images(self, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        return paste(images, draw)[:, 0]


@keras.saving.register_keras_serializable("tf_cutnmix")
class MixUp(Mixing):
    """MixUp; images stay `[B, H, W, C]`. Masks must be of a float dtype: classes do not blend.

    Args:
      alpha: ratios are drawn from Beta(alpha, alpha), above 0.
      num_classes: makes integer labels one-hot.
      ratio_per: one ratio per "sample" or per "batch".
      seed: a whole number; drawn from Python's `random` if None.
    """

    def __init__(
        self,
        alpha: float = 0.2,
        num_classes: int | None = None,
        ratio_per: str = "sample",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(alpha, num_classes, ratio_per, seed, **kwargs)

    def mix_images(self, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        return blend(images, draw)

    def mix_labels(self, labels: tf.Tensor, draw: Draw, height: int, width: int) -> tf.Tensor:
        return mix_labels(labels, draw.partner, draw.ratio, tf.constant(1.0))

    def check(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        batch = super().check(batch)
        masks = batch.get("segmentation_masks")
        if masks is not None and not masks.dtype.is_floating:
            raise ValueError(
                f"MixUp blends segmentation_masks, which {masks.dtype.name} class numbers do not "
                "allow: pass them one-hot as float32, or use CutMix"
            )
        return batch


MIXINGS = {"cutnmix": CutNMix, "cutmix": CutMix, "mixup": MixUp}


def build(name: str, *, num_peers: int, regions: str, **settings: Any) -> Mixing | None:
    """The layer of a name of `MIXINGS`, or None for "none".

    Args:
      name: of the mixing.
      num_peers: views per sample, for the mixings that make several.
      regions: where their boxes lie.
      **settings: that every mixing takes.

    Raises:
      InputError: there is no such mixing.
    """
    if name == "none":
        return None
    if name not in MIXINGS:
        raise unknown("--mix", name, [*MIXINGS, "none"])
    if issubclass(MIXINGS[name], CutNMix):
        settings |= {"num_peers": num_peers, "regions": regions}
    return MIXINGS[name](**settings)


def mix_dataset(
    mixing: Mixing,
    *,
    device: str = "auto",
    jit_compile: bool = True,
    num_parallel_calls: int = tf.data.AUTOTUNE,
) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """A transformation that mixes the batches of a `tf.data.Dataset`.

    ```python
    dataset = dataset.batch(128).apply(mix_dataset(CutNMix(2, num_classes=10, seed=0)))
    ```

    It numbers the batches itself: batch i of the first pass is mixed as the layer mixes at
    step i, however many calls run in parallel; each later pass over the dataset draws anew.

    Args:
      mixing: a layer of this module; its own count of calls is neither used nor changed.
      device: "auto" for the GPU when there is one and the host if not, or a device's name,
        such as "/gpu:0" or "/cpu:0".
      jit_compile: whether XLA compiles the map.
      num_parallel_calls: as of `tf.data.Dataset.map`; of use on the host only.

    Returns:
      A function of a dataset of pairs `(images, labels)` or of dictionaries as of `Mixing`,
      to a dataset of the same kind.
    """
    if device == "auto":
        device = "/gpu:0" if tf.config.list_physical_devices("GPU") else "/cpu:0"

    @tf.function(jit_compile=jit_compile)
    def mix_checked(step: tf.Tensor, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return mixing(batch, training=True, step=step)

    def mix_named(step: tf.Tensor, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        # XLA would drop the check of the labels' range, and compiles no strings.
        checked = mixing.check(batch)
        mixed = mix_checked(step, {name: checked[name] for name in _MIXED if name in checked})
        return {**checked, **mixed}

    def mix(step: tf.Tensor, batch: Any) -> Any:
        if isinstance(batch, Mapping):
            return mix_named(step, batch)
        images, labels = batch
        mixed = mix_named(step, {"images": images, "labels": labels})
        return mixed["images"], mixed["labels"]

    def transform(dataset: tf.data.Dataset) -> tf.data.Dataset:
        passes = itertools.count()
        this_pass = tf.data.Dataset.from_generator(
            lambda: iter([next(passes)]), output_signature=tf.TensorSpec([], tf.int64)
        )
        numbered = this_pass.flat_map(lambda number: dataset.enumerate(number * 2**32))
        if dataset.cardinality() != tf.data.UNKNOWN_CARDINALITY:
            length = tf.data.experimental.assert_cardinality(dataset.cardinality())
            numbered = numbered.apply(length)
        if tf.DeviceSpec.from_string(device).device_type == "GPU":
            numbered = numbered.apply(tf.data.experimental.copy_to_device(device))
            with tf.device(device):
                return numbered.map(mix).prefetch(1)
        return numbered.map(mix, num_parallel_calls=num_parallel_calls, deterministic=True)

    return transform


def _scaled(side: tf.Tensor, pixels: tf.Tensor | int) -> tf.Tensor:
    return tf.cast(tf.round(side * tf.cast(pixels, tf.float32)), tf.int32)


def _shared_pixels(corners: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """How many pixels pairs of boxes share: corners `[B, c, n, 2]`, size `[B, 2]` to `[B, c]`."""
    distance = tf.abs(corners[:, :, :, None, :] - corners[:, :, None, :, :])
    shared = tf.maximum(size[:, None, None, None, :] - distance, 0)
    return tf.reduce_sum(tf.reduce_prod(shared, axis=-1), axis=[-2, -1])


def _inside(boxes: tf.Tensor, height: tf.Tensor | int, width: tf.Tensor | int) -> tf.Tensor:
    """Which pixels lie in the boxes: `[B, n, 4]` int32 -> `[B, n, H, W]` bool."""
    top, left, box_height, box_width = tf.unstack(boxes[..., None], axis=-2)
    rows, columns = tf.range(height), tf.range(width)
    in_rows = (rows >= top) & (rows < top + box_height)
    in_columns = (columns >= left) & (columns < left + box_width)
    return in_rows[..., :, None] & in_columns[..., None, :]


def _labels_by_area(
    labels: tf.Tensor, draw: Draw, height: tf.Tensor | int, width: tf.Tensor | int
) -> tf.Tensor:
    pixels = height * width
    pasted = draw.boxes[:, 0, 2] * draw.boxes[:, 0, 3]
    return mix_labels(labels, draw.partner, pixels - pasted, pixels)


def _sides(images: tf.Tensor) -> tuple[tf.Tensor | int, tf.Tensor | int]:
    """Height and width, as numbers where they are known."""
    known, dynamic = images.shape[1:3], tf.shape(images)
    return tuple(dynamic[i + 1] if side is None else side for i, side in enumerate(known))


def _pictures(batch: Mapping[str, tf.Tensor]) -> list[str]:
    return [name for name in _MIXED if name in batch and name != "labels"]


def _check_settings(
    alpha: float,
    num_classes: int | None,
    ratio_per: str,
    num_peers: int = 1,
    regions: str = "uniform",
) -> None:
    if not 0 < alpha < float("inf"):
        raise ValueError(f"alpha must be a number above 0. Received: alpha={alpha}")
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes must be 1 or more. Received: num_classes={num_classes}")
    if ratio_per not in ("sample", "batch"):
        raise ValueError(f"ratio_per must be 'sample' or 'batch'. Received: {ratio_per!r}")
    if num_peers < 1 or num_peers != int(num_peers):
        raise ValueError(f"num_peers must be 1 or more. Received: num_peers={num_peers}")
    if regions not in ("uniform", "spread"):
        raise ValueError(f"regions must be 'uniform' or 'spread'. Received: {regions!r}")


def _checked(batch: Mapping[str, tf.Tensor], num_classes: int | None) -> dict[str, tf.Tensor]:
    if not (isinstance(batch, Mapping) and {"images", "labels"} <= set(batch)):
        raise ValueError(
            "mixing needs a dictionary with 'images' and 'labels'. "
            f"Received: {sorted(batch) if isinstance(batch, Mapping) else type(batch).__name__}"
        )
    if "bounding_boxes" in batch:
        raise ValueError("mixing would leave 'bounding_boxes' wrong: take them out of the batch")
    mixed = {name: tf.convert_to_tensor(batch[name]) for name in _MIXED if name in batch}
    images, labels = mixed["images"], mixed["labels"]
    if images.shape.rank != 4:
        raise ValueError(
            f"images must be a batch [B, H, W, C], its rank known. Received: shape {images.shape}"
        )
    masks = mixed.get("segmentation_masks", images)
    if masks.shape.rank not in (3, 4) or not masks.shape[:3].is_compatible_with(images.shape[:3]):
        raise ValueError(
            "segmentation_masks must be [B, H, W] or [B, H, W, M], of the images' size. "
            f"Received: shape {masks.shape} for images {images.shape}"
        )
    if not labels.shape[:1].is_compatible_with(images.shape[:1]):
        raise ValueError(
            "labels must be as many as images. "
            f"Received: labels of shape {labels.shape} for images {images.shape}"
        )
    return {**batch, **mixed, "labels": soft_labels(labels, num_classes)}
