"""Mixed samples as Keras layers: Cut^nMix, CutMix (Yun et al. 2019), MixUp (Zhang et al. 2018),
FMix (Harris et al. 2020).

Cut^nMix of `n` peers ("Mixed Sample Augmentation for Online Distillation", Shen et al. 2022,
arXiv 2206.12370; docs/the_paper.md says what is our reading): all peers share the ratio, the
partner and the size of the box, so they share the label; each has its box in another place.
"""

import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_cutnmix.errors import unknown
from tf_cutnmix.mixing import draws, sampling
from tf_cutnmix.mixing.batch import checked, sides
from tf_cutnmix.mixing.sampling import Draw, MaskDraw


class Mixing(draws.SteppedLayer):
    """What all mixings share: a draw, what it does to a dictionary, and the arguments.

    Call it with `{"images": [B, H, W, C], "labels": ...}`, images of any dtype, which they
    keep, labels one-hot or soft `[B, K]`, or integers `[B]` if `num_classes` is given;
    labels come back as `[B, K]` float32; other entries pass through. `training=False` mixes
    nothing and returns the same shapes. Draws are a function of (seed, step); `step` is the
    number of the training call unless the caller passes it.

    A row of labels that is all zero is that of an image without a label: such images are mixed with
    each other alone.

    Images may also be views `[B, n, H, W, C]`, one for each of `n` peers. They keep their shape:
    one draw mixes view k of a sample with view k of its partner.

    Args:
      alpha: ratios are drawn from Beta(alpha, alpha), above 0.
      num_classes: makes integer labels one-hot.
      ratio_per: one ratio per "sample" or per "batch".
      seed: a whole number; drawn from Python's `random` if None.
      probability: of each sample to be mixed, from 0 to 1; one that is not keeps its label.
        (The CIFAR recipe of CutMix has 0.5, drawn by batch.)
      until_step: the first step at which nothing is mixed any more; None for never.

    Raises:
      ValueError: an argument is out of range, or a batch is not as described.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        num_classes: int | None = None,
        ratio_per: str = "sample",
        seed: int | None = None,
        *,
        probability: float = 1.0,
        until_step: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(seed, **kwargs)
        if not 0 < alpha < float("inf"):
            raise ValueError(f"alpha must be a number above 0. Received: alpha={alpha}")
        if num_classes is not None and (num_classes < 1 or num_classes != int(num_classes)):
            raise ValueError(f"num_classes must be 1 or more. Received: num_classes={num_classes}")
        if ratio_per not in ("sample", "batch"):
            raise ValueError(f"ratio_per must be 'sample' or 'batch'. Received: {ratio_per!r}")
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be from 0 to 1. Received: {probability}")
        if until_step is not None and until_step < 0:
            raise ValueError(f"until_step must be 0 or more, or None. Received: {until_step}")
        self.alpha = float(alpha)
        self.num_classes = num_classes
        self.ratio_per = ratio_per
        self.probability = float(probability)
        self.until_step = until_step

    def draw(self, step: tf.Tensor | int, shape: tuple[Any, Any, Any]) -> Any:
        """The draw for one batch of shape `(B, H, W)`."""
        return self._draw_boxes(step, shape)

    def draw_for(self, batch: Mapping[str, tf.Tensor], step: tf.Tensor | int) -> Any:
        """The draw for images and labels `[B, K]`: those without a label are mixed apart."""
        images = batch["images"]
        draw = self.draw(step, (tf.shape(images)[0], *sides(images)))
        return sampling.apart(draw, batch["labels"])

    def _draw_boxes(
        self,
        step: tf.Tensor | int,
        shape: tuple[Any, Any, Any],
        num_peers: int = 1,
        regions: str = "uniform",
    ) -> Draw:
        batch, height, width = shape
        ratio, partner, level = self._ratios(step, batch)
        side = tf.gather(np.sqrt(draws.beta_quantiles(self.alpha)[1]), level)
        size = tf.stack([_scaled(side, height), _scaled(side, width)], axis=-1)  # (B, 2)
        key = draws.key(self.seed, step, draws.Stream.CORNER)
        boxes = sampling.boxes(key, size, height, width, num_peers=num_peers, regions=regions)
        return Draw(ratio, partner, boxes)

    def _ratios(self, step: tf.Tensor | int, batch: tf.Tensor | int) -> tuple[tf.Tensor, ...]:
        """Of each sample its ratio, partner, and the number of the ratio, each `[B]`."""
        key = functools.partial(draws.key, self.seed, step)
        several = batch if self.ratio_per == "sample" else 1
        level = draws.integers(key(draws.Stream.RATIO), [several], draws.LEVELS)
        level = tf.broadcast_to(level, [batch])
        if self.probability < 1 or self.until_step is not None:
            chance = draws.integers(key(draws.Stream.WHETHER), [batch], 2**31)
            mixed = tf.cast(chance, tf.int64) < round(self.probability * 2**31)
            if self.until_step is not None:
                mixed &= tf.cast(step, tf.int64) < self.until_step
            level = tf.where(mixed, level, draws.LEVELS)  # of which the ratio is 1
        partner = draws.permutation(key(draws.Stream.PARTNER), batch)
        return tf.gather(draws.beta_quantiles(self.alpha)[0], level), partner, level

    def mix_images(self, images: tf.Tensor, draw: Any) -> tf.Tensor:
        """Images or views, mixed as `draw` says."""
        raise NotImplementedError

    def mix_labels(self, labels: tf.Tensor, draw: Any, height: int, width: int) -> tf.Tensor:
        """Labels `[B, K]` float32 that fit the mixed images: by the pixels in the boxes."""
        pixels = height * width
        pasted = draw.boxes[:, 0, 2] * draw.boxes[:, 0, 3]
        return _mix_labels(labels, draw.partner, pixels - pasted, pixels)

    def unmixed(self, images: tf.Tensor) -> tf.Tensor:
        """Images or views as they are, in the shape that mixed ones have."""
        return images

    def check(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The batch as tensors with labels `[B, K]` float32; `ValueError` if it is no such."""
        return checked(batch, self.num_classes)

    def apply(self, batch: Mapping[str, tf.Tensor], draw: Draw | MaskDraw) -> dict[str, tf.Tensor]:
        """A whole batch, mixed as `draw` says: a pure function of its arguments."""
        batch = self.check(batch)
        labels = self.mix_labels(batch["labels"], draw, *sides(batch["images"]))
        return {**batch, "images": self.mix_images(batch["images"], draw), "labels": labels}

    def call(
        self,
        batch: Mapping[str, tf.Tensor] | tf.Tensor,
        labels: tf.Tensor | None = None,
        training: bool = True,
        step: tf.Tensor | int | None = None,
    ) -> Any:
        if labels is not None:  # as `Dataset.map` calls it for pairs
            mixed = self.call({"images": batch, "labels": labels}, training=training, step=step)
            return mixed["images"], mixed["labels"]
        batch = self.check(batch)
        if not training:
            return {**batch, "images": self.unmixed(batch["images"])}
        return self.apply(batch, self.draw_for(batch, self.next_step(step)))

    def get_config(self) -> dict[str, Any]:
        names = ("alpha", "num_classes", "ratio_per", "probability", "until_step")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("tf_cutnmix")
class CutNMix(Mixing):
    """Cut^nMix: one view of each mixed pair for every peer, the box in another place.

    ```python
    mix = CutNMix(num_peers=2, num_classes=10, seed=0)
    mixed = mix({"images": images, "labels": labels})
    mixed["images"].shape, mixed["labels"].shape  # (B, 2, H, W, C), (B, 10)
    ```

    Images come back as `[B, num_peers, H, W, C]`; images given as views must be
    `num_peers` views, and view k is mixed by box k. All peers of a sample share its label,
    exact to the pixel: the box covers `h w / (H W)` of every view. With one peer this is CutMix.

    It also takes the arguments of `Mixing`.

    Args:
      num_peers: views per sample, 1 or more.
      regions: "uniform" corners, or "spread": of 8 uniform sets of corners the one whose
        boxes overlap least (an extension; uniform boxes have a mean pair IoU near 1/2).
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
        if num_peers < 1 or num_peers != int(num_peers):
            raise ValueError(f"num_peers must be 1 or more. Received: num_peers={num_peers}")
        if regions not in ("uniform", "spread"):
            raise ValueError(f"regions must be 'uniform' or 'spread'. Received: {regions!r}")
        self.num_peers = num_peers
        self.regions = regions

    def draw(self, step: tf.Tensor | int, shape: tuple[Any, Any, Any]) -> Draw:
        return self._draw_boxes(step, shape, self.num_peers, self.regions)

    def mix_images(self, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        return sampling.paste(images, draw)

    def unmixed(self, images: tf.Tensor) -> tf.Tensor:
        if images.shape.rank == 5:
            return images
        return tf.repeat(images[:, None], self.num_peers, axis=1)

    def check(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        batch = super().check(batch)
        shape = batch["images"].shape
        if shape.rank == 5 and shape[1] not in (None, self.num_peers):
            raise ValueError(
                f"views [B, n, H, W, C] must be num_peers={self.num_peers} for each sample. "
                f"Received: shape {shape}"
            )
        return batch

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_peers": self.num_peers, "regions": self.regions}


@keras.saving.register_keras_serializable("tf_cutnmix")
class CutMix(Mixing):
    """CutMix with whole boxes and labels exact to the pixel; images stay `[B, H, W, C]`.

    Args: those of `Mixing`.
    """

    def mix_images(self, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        return _as_before(images, sampling.paste(images, draw))


@keras.saving.register_keras_serializable("tf_cutnmix")
class MixUp(Mixing):
    """MixUp: `ratio * image + (1 - ratio) * partner`, whole numbers rounded to nearest.

    Images stay `[B, H, W, C]`. Args: those of `Mixing`; alpha is 0.2 by default.
    """

    def __init__(self, alpha: float = 0.2, *args: Any, **kwargs: Any) -> None:
        super().__init__(alpha, *args, **kwargs)

    def mix_images(self, images: tf.Tensor, draw: Draw) -> tf.Tensor:
        # Some have more digits than float32 has.
        dtype = tf.float64 if images.dtype in (tf.float64, tf.int32, tf.uint32) else tf.float32
        values = tf.cast(images, dtype)
        ratio = tf.reshape(tf.cast(draw.ratio, dtype), [-1] + [1] * (len(images.shape) - 1))
        mixed = ratio * values + (1 - ratio) * tf.gather(values, draw.partner)
        return tf.cast(tf.round(mixed) if images.dtype.is_integer else mixed, images.dtype)

    def mix_labels(self, labels: tf.Tensor, draw: Draw, height: int, width: int) -> tf.Tensor:
        return _mix_labels(labels, draw.partner, draw.ratio, 1.0)

    def check(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        batch = super().check(batch)
        dtype = batch["images"].dtype
        if not (dtype.is_floating or (dtype.is_integer and dtype.size <= 4)):
            raise ValueError(
                f"MixUp cannot blend images of {dtype.name}: pass whole numbers of at most 32 bits "
                "or floats, or use CutMix, which copies"
            )
        return batch


@keras.saving.register_keras_serializable("tf_cutnmix")
class FMix(Mixing):
    """FMix (Harris et al. 2020): masks of any shape; all peers see the same one.

    Images stay `[B, H, W, C]`; labels are exact to the pixel. See `sampling.mask`.

    It also takes the arguments of `Mixing`.

    Args:
      decay_power: 0 or more; the higher, the fewer and smoother the pieces of a mask.
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
        batch, height, width = shape
        ratio, partner, level = self._ratios(step, batch)
        rest = tf.gather(draws.beta_quantiles(self.alpha)[1], level)
        key = draws.key(self.seed, step, draws.Stream.NOISE)
        pasted = _scaled(rest, height * width)
        return MaskDraw(ratio, partner, sampling.mask(key, pasted, height, width, self.decay_power))

    def mix_images(self, images: tf.Tensor, draw: MaskDraw) -> tf.Tensor:
        views = images if images.shape.rank == 5 else images[:, None]
        mask = draw.mask[:, None, :, :, None]
        return _as_before(images, tf.where(mask, tf.gather(views, draw.partner), views))

    def mix_labels(self, labels: tf.Tensor, draw: MaskDraw, height: int, width: int) -> tf.Tensor:
        pixels = height * width
        pasted = tf.math.count_nonzero(draw.mask, axis=[1, 2], dtype=tf.int32)
        return _mix_labels(labels, draw.partner, pixels - pasted, pixels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decay_power": self.decay_power}


def cutnmix(
    images: tf.Tensor, labels: tf.Tensor, *, step: tf.Tensor | int, seed: int = 0, **settings: Any
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cut^nMix as a function: of images and labels as of `Mixing`, with settings of `CutNMix`.

    Returns:
      Images `[B, num_peers, H, W, C]` and labels `[B, K]` float32.
    """
    return _Stateless(seed=seed, **settings).call(images, labels, step=step)


class _Stateless(CutNMix):
    """Does not count its calls: a graph cannot make the variable for that."""

    def add_weight(self, **_: Any) -> None:
        return None


MIXINGS = {"cutnmix": CutNMix, "cutmix": CutMix, "mixup": MixUp, "fmix": FMix}


def build(name: str, *, num_peers: int, regions: str, **settings: Any) -> Mixing | None:
    """The layer of a name of `MIXINGS`, or None for "none"; arguments as of the layers.

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


def _as_before(images: tf.Tensor, mixed: tf.Tensor) -> tf.Tensor:
    """Mixed `[B, 1, H, W, ...]` without the axis of views, if the images have none."""
    return mixed if images.shape.rank == 5 else mixed[:, 0]


def _mix_labels(
    labels: tf.Tensor, partner: tf.Tensor, own: tf.Tensor, whole: tf.Tensor | float
) -> tf.Tensor:
    """`(own * label + (whole - own) * partner's label) / whole`, labels `[B, K]` float32.

    Counts of pixels are exact in float32 up to 2^24 of them.
    """
    own = tf.cast(own, labels.dtype)[:, None]
    whole = tf.cast(whole, labels.dtype)
    return (own * labels + (whole - own) * tf.gather(labels, partner)) / whole


def _scaled(part: tf.Tensor, pixels: tf.Tensor | int) -> tf.Tensor:
    """A part of so many pixels, rounded to nearest, int32."""
    return tf.cast(tf.round(part * tf.cast(pixels, tf.float32)), tf.int32)
