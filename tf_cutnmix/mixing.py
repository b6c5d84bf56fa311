"""Mixed samples: Cut^nMix, CutMix (Yun et al. 2019), MixUp (Zhang et al. 2018), FMix (Harris
et al. 2020).

Sampling is apart from applying. `sample` and `sample_mask` make a draw from (seed, step);
`paste`, `paste_mask`, `blend` and `mix_labels` are pure functions of images, labels and a draw.

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
_LEVELS = 2**16
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


class MaskDraw(NamedTuple):
    """What was drawn for one batch of `B` images of `H` rows and `W` columns.

    Attributes:
      ratio: `[B]` float32 in [0, 1], Beta distributed: about how much of the image stays.
      partner: `[B]` int32, a permutation: the image that each one is mixed with.
      mask: `[B, H, W]` bool: the pixels that come from the partner.
    """

    ratio: tf.Tensor
    partner: tf.Tensor
    mask: tf.Tensor


@functools.lru_cache
def beta_quantiles(alpha: float) -> np.ndarray:
    """The 2^16 equally likely ratios that stand for Beta(alpha, alpha), ascending, float32.

    They are the inverse CDF at (i + 1/2) / 2^16, so that a uniform integer draws a ratio, on
    any device and inside XLA, which has no sampler of its own for this distribution.
    """
    quantiles = scipy.special.betaincinv(alpha, alpha, _levels()).astype(np.float32)
    quantiles.flags.writeable = False
    return quantiles


@functools.lru_cache
def normal_quantiles() -> np.ndarray:
    """The 2^16 equally likely numbers that stand for the normal distribution, as above."""
    quantiles = scipy.special.ndtri(_levels()).astype(np.float32)
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
    level = _ratio_levels(seed, step, batch, ratio_per)
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
    shared = tf.reduce_sum(_shared_pixels(corners, size), axis=[-2, -1])  # (B, candidates)
    best = tf.argmin(shared, axis=-1, output_type=tf.int32)
    corners = tf.gather(corners, best, axis=1, batch_dims=1)  # (B, n, 2)
    sizes = tf.broadcast_to(size[:, None, :], tf.shape(corners))
    return Draw(
        ratio=tf.gather(quantiles, level),
        partner=draws.permutation(draws.key(seed, step, draws.Stream.PARTNER), batch),
        boxes=tf.concat([corners, sizes], axis=-1),
    )


def sample_mask(
    seed: int,
    step: tf.Tensor | int,
    shape: tuple[Any, Any, Any],
    *,
    alpha: float,
    decay_power: float = 3.0,
    ratio_per: str = "sample",
) -> MaskDraw:
    """Draw ratios, partners and the masks of FMix (Harris et al. 2020).

    A mask holds the `round((1 - ratio) H W)` highest pixels of low-frequency noise: of the
    real part of the inverse Fourier transform of complex Gaussian noise that is divided by
    `max(frequency, 1 / max(H, W)) ** decay_power`. The number of pixels is equal in eager,
    graph and XLA; so are the pixels themselves, but where the Fourier transform of another
    device or compiler rounds two nearly equal ones the other way round.

    Args:
      seed: a Python integer.
      step: number of the batch, a scalar.
      shape: batch size, height and width, numbers or scalar tensors.
      alpha: of Beta(alpha, alpha), above 0.
      decay_power: 0 or more; the higher, the fewer and smoother the pieces of a mask.
      ratio_per: "sample" or "batch".
    """
    batch, height, width = shape
    level = _ratio_levels(seed, step, batch, ratio_per)
    quantiles = beta_quantiles(alpha)
    noise_key = draws.key(seed, step, draws.Stream.NOISE)
    noise = draws.integers(noise_key, [2, batch, height, width], _LEVELS)
    real, imaginary = tf.unstack(tf.gather(normal_quantiles(), noise))

    rows, columns = _frequencies(height), _frequencies(width)
    frequency = tf.sqrt(rows[:, None] ** 2 + columns**2)
    lowest = 1 / tf.cast(tf.maximum(height, width), tf.float32)
    # Of the paper's weights this is a multiple that cannot overflow; ranks are the same.
    weight = (lowest / tf.maximum(frequency, lowest)) ** decay_power
    smooth = tf.math.real(tf.signal.ifft2d(tf.complex(weight * real, weight * imaginary)))

    pixels = height * width
    pasted = _scaled(tf.gather(quantiles[::-1], level), pixels)
    highest = _highest(tf.reshape(smooth, [batch, pixels]), pasted)
    return MaskDraw(
        ratio=tf.gather(quantiles, level),
        partner=draws.permutation(draws.key(seed, step, draws.Stream.PARTNER), batch),
        mask=tf.reshape(highest, [batch, height, width]),
    )


def overlap(draw: Draw) -> tf.Tensor:
    """How much the peers' boxes overlap: mean intersection over union of two peers' boxes.

    Returns:
      A scalar float32 in [0, 1], the mean over the pairs of peers and over the samples whose
      boxes are not empty; 0 if there are none.
    """
    size, num_peers = draw.boxes[:, 0, 2:], tf.shape(draw.boxes)[1]
    shared = tf.cast(_shared_pixels(draw.boxes[:, None, :, :2], size)[:, 0], tf.float32)
    area = tf.cast(tf.reduce_prod(size, axis=-1), tf.float32)  # (B,)
    ious = tf.math.divide_no_nan(shared, 2 * area[:, None, None] - shared)  # (B, n, n)
    of_others = tf.linalg.set_diag(ious, tf.zeros_like(ious[..., 0]))
    pairs = tf.math.count_nonzero(area, dtype=tf.int32) * num_peers * (num_peers - 1)
    return tf.math.divide_no_nan(tf.reduce_sum(of_others), tf.cast(pairs, tf.float32))


def paste(images: tf.Tensor, draw: Draw) -> tf.Tensor:
    """Each peer's view: the partner's pixels inside the peer's box, the image's own outside.

    Args:
      images: `[B, H, W]`, `[B, H, W, C]`, or a view for each peer `[B, n, H, W, C]`; any dtype.
      draw: with boxes for `n` peers; with one box for all of them where there are views.

    Returns:
      `[B, n, H, W, ...]` of the same dtype, every value one of the input's, bit for bit; view
      k is mixed with the partner's view k.
    """
    batch, *rest = _dimensions(images)
    count = rest.pop(0) if images.shape.rank == 5 else 1
    height, width, channels = rest if images.shape.rank > 3 else (*rest, 1)
    boxes = tf.unstack(draw.boxes, axis=1)
    # Columns and channels in one axis, and a select for each box: XLA copies memory in long
    # runs then, in a third of the time.
    rows = tf.reshape(images, [batch, count, height, width * channels])
    partners = tf.gather(rows, draw.partner)
    views = []
    for k, box in enumerate(boxes):
        own = slice(k, k + 1) if images.shape.rank == 5 and len(boxes) > 1 else slice(None)
        inside = _inside(box, height, width, channels)[:, None]
        views.append(tf.where(inside, partners[:, own], rows[:, own]))
    number = len(boxes) if len(boxes) > 1 else count
    return tf.reshape(tf.concat(views, axis=1), [batch, number, *rest])


def paste_mask(images: tf.Tensor, draw: MaskDraw) -> tf.Tensor:
    """The partner's pixels where the mask is true, the image's own elsewhere.

    Args:
      images: `[B, H, W]`, `[B, H, W, C]` or views `[B, n, H, W, C]`, any dtype.
      draw: with a mask of the images' size, which all views share.

    Returns:
      Images of the same shape and dtype, every value one of the input's, bit for bit.
    """
    views = images if images.shape.rank == 5 else images[:, None]
    mask = draw.mask[:, None]
    mask = tf.reshape(mask, tf.concat([tf.shape(mask), [1] * (views.shape.rank - 4)], axis=0))
    return _as_came(images, tf.where(mask, tf.gather(views, draw.partner), views))


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
    _check_settings(alpha, num_classes, ratio_per)
    _check_boxes(num_peers, regions)
    batch = _checked({"images": images, "labels": labels}, num_classes)
    images, labels = batch["images"], batch["labels"]
    _check_views(images, num_peers)
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

    Images may also be views `[B, n, H, W, C]`, one for each of `n` peers, without masks. They
    keep their shape: one draw mixes view k of a sample with view k of its partner.

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

    def draw(self, step: tf.Tensor | int, shape: tuple[Any, Any, Any]) -> Draw | MaskDraw:
        """The draw for one batch of shape `(B, H, W)`."""
        return sample(
            self.seed, step, shape, alpha=self.alpha, num_peers=1, ratio_per=self.ratio_per
        )

    def mix_images(self, images: tf.Tensor, draw: Draw | MaskDraw) -> tf.Tensor:
        """Images or masks, mixed as `draw` says."""
        raise NotImplementedError

    def mix_labels(
        self, labels: tf.Tensor, draw: Draw | MaskDraw, height: int, width: int
    ) -> tf.Tensor:
        """Labels `[B, K]` float32 that fit the mixed images."""
        return _labels_by_area(labels, draw, height, width)

    def unmixed(self, images: tf.Tensor) -> tf.Tensor:
        """Images or masks as they are, in the shape that mixed ones have."""
        return images

    def check(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The batch as tensors with labels `[B, K]` float32; `ValueError` if it is no such."""
        return _checked(batch, self.num_classes)

    def apply(self, batch: Mapping[str, tf.Tensor], draw: Draw | MaskDraw) -> dict[str, tf.Tensor]:
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

    Images come back as `[B, num_peers, H, W, C]`, masks likewise; images that came as views
    must be `num_peers` views, and view k is mixed by box k. All peers of a sample
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
        _check_boxes(num_peers, regions)
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
        if images.shape.rank == 5:
            return images
        return tf.repeat(images[:, None], self.num_peers, axis=1)

    def check(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        batch = super().check(batch)
        _check_views(batch["images"], self.num_peers)
        return batch

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
        return _as_came(images, paste(images, draw))


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


@keras.saving.register_keras_serializable("tf_cutnmix")
class FMix(Mixing):
    """FMix (Harris et al. 2020): masks of any shape; all peers see the same one.

    Images stay `[B, H, W, C]`; labels are exact to the pixel. See `sample_mask`.

    Args:
      alpha: ratios are drawn from Beta(alpha, alpha), above 0.
      num_classes: makes integer labels one-hot.
      ratio_per: one ratio per "sample" or per "batch".
      decay_power: 0 or more; the higher, the fewer and smoother the pieces of a mask.
      seed: a whole number; drawn from Python's `random` if None.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        num_classes: int | None = None,
        ratio_per: str = "sample",
        decay_power: float = 3.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(alpha, num_classes, ratio_per, seed, **kwargs)
        if not 0 <= decay_power < float("inf"):
            raise ValueError(f"decay_power must be 0 or more. Received: decay_power={decay_power}")
        self.decay_power = float(decay_power)

    def draw(self, step: tf.Tensor | int, shape: tuple[Any, Any, Any]) -> MaskDraw:
        return sample_mask(
            self.seed,
            step,
            shape,
            alpha=self.alpha,
            decay_power=self.decay_power,
            ratio_per=self.ratio_per,
        )

    def mix_images(self, images: tf.Tensor, draw: MaskDraw) -> tf.Tensor:
        return paste_mask(images, draw)

    def mix_labels(self, labels: tf.Tensor, draw: MaskDraw, height: int, width: int) -> tf.Tensor:
        pixels = height * width
        pasted = tf.math.count_nonzero(draw.mask, axis=[1, 2], dtype=tf.int32)
        return mix_labels(labels, draw.partner, pixels - pasted, pixels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decay_power": self.decay_power}


MIXINGS = {"cutnmix": CutNMix, "cutmix": CutMix, "mixup": MixUp, "fmix": FMix}


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


def _levels() -> np.ndarray:
    return (np.arange(_LEVELS) + 0.5) / _LEVELS


def _ratio_levels(
    seed: int, step: tf.Tensor | int, batch: tf.Tensor | int, ratio_per: str
) -> tf.Tensor:
    """Which of the 2^16 ratios each sample has: `[B]` int32."""
    level_key = draws.key(seed, step, draws.Stream.RATIO)
    level = draws.integers(level_key, [batch if ratio_per == "sample" else 1], _LEVELS)
    return tf.broadcast_to(level, [batch])


def _frequencies(size: tf.Tensor | int) -> tf.Tensor:
    """Absolute frequencies of a discrete Fourier transform, in cycles per pixel: `[size]`."""
    index = tf.range(size)
    return tf.cast(tf.minimum(index, size - index), tf.float32) / tf.cast(size, tf.float32)


def _highest(values: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """Which of `[B, P]` float32 are the `number` `[B]` highest of their row, exactly as many.

    Of equal values the later ones are higher; `P` is at most 2^24. A search for the lowest key
    that is in: XLA's sort takes ten times as long on a CPU.
    """
    bits = tf.bitcast(values, tf.int32)
    ascending = tf.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    places = tf.range(tf.shape(values)[1], dtype=tf.int32)
    keys = tf.cast(ascending, tf.int64) * 2**24 + tf.cast(places, tf.int64)
    lowest = tf.fill(tf.shape(number), tf.constant(-(2**55), tf.int64))
    for bit in reversed(range(56)):
        raised = lowest + 2**bit
        reached = tf.math.count_nonzero(keys >= raised[:, None], axis=-1, dtype=tf.int32)
        lowest = tf.where(reached >= number, raised, lowest)
    return keys >= lowest[:, None]


def _scaled(part: tf.Tensor, pixels: tf.Tensor | int) -> tf.Tensor:
    return tf.cast(tf.round(part * tf.cast(pixels, tf.float32)), tf.int32)


def _shared_pixels(corners: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Pixels that two boxes share: corners `[B, c, n, 2]`, size `[B, 2]` to `[B, c, n, n]`."""
    distance = tf.abs(corners[:, :, :, None, :] - corners[:, :, None, :, :])
    shared = tf.maximum(size[:, None, None, None, :] - distance, 0)
    return tf.reduce_prod(shared, axis=-1)


def _inside(
    box: tf.Tensor, height: tf.Tensor | int, width: tf.Tensor | int, channels: tf.Tensor | int
) -> tf.Tensor:
    """Which values lie in one box of each image: `[B, 4]` int32 -> `[B, H, W * C]` bool."""
    top, left, box_height, box_width = tf.unstack(box[..., None], axis=1)
    rows, columns = tf.range(height), tf.range(width * channels)
    in_rows = (rows >= top) & (rows < top + box_height)
    in_columns = (columns >= left * channels) & (columns < (left + box_width) * channels)
    return in_rows[:, :, None] & in_columns[:, None, :]


def _as_came(images: tf.Tensor, mixed: tf.Tensor) -> tf.Tensor:
    """Mixed `[B, 1, H, W, ...]` without the axis of views, if the images came without it."""
    return mixed if images.shape.rank == 5 else mixed[:, 0]


def _labels_by_area(
    labels: tf.Tensor, draw: Draw, height: tf.Tensor | int, width: tf.Tensor | int
) -> tf.Tensor:
    pixels = height * width
    pasted = draw.boxes[:, 0, 2] * draw.boxes[:, 0, 3]
    return mix_labels(labels, draw.partner, pixels - pasted, pixels)


def _dimensions(images: tf.Tensor) -> list[tf.Tensor | int]:
    """The shape, with numbers where they are known."""
    dynamic = tf.shape(images)
    return [dynamic[i] if size is None else size for i, size in enumerate(images.shape)]


def _sides(images: tf.Tensor) -> tuple[tf.Tensor | int, tf.Tensor | int]:
    """Height and width."""
    first = 2 if images.shape.rank == 5 else 1
    return tuple(_dimensions(images)[first : first + 2])


def _pictures(batch: Mapping[str, tf.Tensor]) -> list[str]:
    return [name for name in _MIXED if name in batch and name != "labels"]


def _check_settings(alpha: float, num_classes: int | None, ratio_per: str) -> None:
    if not 0 < alpha < float("inf"):
        raise ValueError(f"alpha must be a number above 0. Received: alpha={alpha}")
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes must be 1 or more. Received: num_classes={num_classes}")
    if ratio_per not in ("sample", "batch"):
        raise ValueError(f"ratio_per must be 'sample' or 'batch'. Received: {ratio_per!r}")


def _check_boxes(num_peers: int, regions: str) -> None:
    if num_peers < 1 or num_peers != int(num_peers):
        raise ValueError(f"num_peers must be 1 or more. Received: num_peers={num_peers}")
    if regions not in ("uniform", "spread"):
        raise ValueError(f"regions must be 'uniform' or 'spread'. Received: {regions!r}")


def _check_views(images: tf.Tensor, num_peers: int) -> None:
    if images.shape.rank == 5 and images.shape[1] not in (None, num_peers):
        raise ValueError(
            f"views [B, n, H, W, C] must be num_peers={num_peers} for each sample. "
            f"Received: shape {images.shape}"
        )


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
    if images.shape.rank not in (4, 5):
        raise ValueError(
            "images must be a batch [B, H, W, C] or views [B, n, H, W, C], the rank known. "
            f"Received: shape {images.shape}"
        )
    if images.shape.rank == 5 and "segmentation_masks" in mixed:
        raise ValueError(
            "views [B, n, H, W, C] cannot be mixed with segmentation_masks: each view would need "
            f"masks of its own. Received: images of shape {images.shape}"
        )
    masks = mixed.get("segmentation_masks")
    if masks is not None and not (
        masks.shape.rank in (3, 4) and masks.shape[:3].is_compatible_with(images.shape[:3])
    ):
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
