"""Mixed samples as Keras layers: Cut^nMix, CutMix (Yun et al. 2019), MixUp (Zhang et al. 2018),
FMix (Harris et al. 2020).

Cut^nMix of `n` peers ("Mixed Sample Augmentation for Online Distillation", Shen et al. 2022,
arXiv 2206.12370; docs/the_paper.md says what is our reading): all peers share the ratio, the
partner and the size of the box, so they share the label; each has its box in another place.
"""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tf_cutnmix.errors import unknown
from tf_cutnmix.mixing import draws, sampling
from tf_cutnmix.mixing.batch import (
    check_boxes,
    check_settings,
    check_views,
    check_when,
    checked,
    picture_names,
)
from tf_cutnmix.mixing.pasting import (
    BLENDED,
    as_came,
    blend,
    labels_by_area,
    mix_labels,
    paste,
    paste_mask,
    sides,
)
from tf_cutnmix.mixing.sampling import Draw, MaskDraw


class Mixing(draws.SteppedLayer):
    """What all mixings share: a draw, and what it does to a dictionary.

    Call it with `{"images": [B, H, W, C], "labels": ...}`, images of any dtype, which they
    keep, labels one-hot or soft `[B, K]`, or integers `[B]` if `num_classes` is given;
    labels come back as `[B, K]` float32. `segmentation_masks` `[B, H, W]` or `[B, H, W, M]`
    are mixed as the images are; other entries pass through. `training=False` mixes nothing
    and returns the same shapes. Draws are a function of (seed, step); `step` is the number
    of the training call unless the caller passes it.

    Images may also be views `[B, n, H, W, C]`, one for each of `n` peers, without masks. They
    keep their shape: one draw mixes view k of a sample with view k of its partner.

    Args that every mixing takes besides its own:
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
        check_settings(alpha, num_classes, ratio_per)
        check_when(probability, until_step)
        self.alpha = float(alpha)
        self.num_classes = num_classes
        self.ratio_per = ratio_per
        self.probability = float(probability)
        self.until_step = until_step

    def draw(self, step: tf.Tensor | int, shape: tuple[Any, Any, Any]) -> Any:
        """The draw for one batch of shape `(B, H, W)`."""
        draw = self.sample(step, shape)
        if self.probability == 1 and self.until_step is None:
            return draw
        key = draws.key(self.seed, step, draws.Stream.WHETHER)
        level = tf.cast(draws.integers(key, [shape[0]], 2**31), tf.int64)
        mixed = level < round(self.probability * 2**31)
        if self.until_step is not None:
            mixed &= tf.cast(step, tf.int64) < self.until_step
        return draw.only(mixed)

    def sample(self, step: tf.Tensor | int, shape: tuple[Any, Any, Any]) -> Any:
        """The draw for a batch whose every sample is mixed; it has a method `only`."""
        return sampling.sample(
            self.seed, step, shape, alpha=self.alpha, num_peers=1, ratio_per=self.ratio_per
        )

    def mix_images(self, images: tf.Tensor, draw: Any) -> tf.Tensor:
        """Images or masks, mixed as `draw` says."""
        raise NotImplementedError

    def mix_labels(self, labels: tf.Tensor, draw: Any, height: int, width: int) -> tf.Tensor:
        """Labels `[B, K]` float32 that fit the mixed images."""
        return labels_by_area(labels, draw, height, width)

    def unmixed(self, images: tf.Tensor) -> tf.Tensor:
        """Images or masks as they are, in the shape that mixed ones have."""
        return images

    def check(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The batch as tensors with labels `[B, K]` float32; `ValueError` if it is no such."""
        return checked(batch, self.num_classes)

    def apply(self, batch: Mapping[str, tf.Tensor], draw: Draw | MaskDraw) -> dict[str, tf.Tensor]:
        """A whole batch, mixed as `draw` says: a pure function of its arguments."""
        batch = self.check(batch)
        labels = self.mix_labels(batch["labels"], draw, *sides(batch["images"]))
        pictures = {name: self.mix_images(batch[name], draw) for name in picture_names(batch)}
        return {**batch, **pictures, "labels": labels}

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
            return {**batch, **{name: self.unmixed(batch[name]) for name in picture_names(batch)}}
        images = batch["images"]
        draw = self.draw(self.next_step(step), (tf.shape(images)[0], *sides(images)))
        return self.apply(batch, draw)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "num_classes": self.num_classes,
            "ratio_per": self.ratio_per,
            "probability": self.probability,
            "until_step": self.until_step,
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
      regions: "uniform" or "spread", see `sampling.sample`.
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
        check_boxes(num_peers, regions)
        self.num_peers = num_peers
        self.regions = regions

    def sample(self, step: tf.Tensor | int, shape: tuple[Any, Any, Any]) -> Draw:
        return sampling.sample(
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
        check_views(batch["images"], self.num_peers)
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
        return as_came(images, paste(images, draw))


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
        if batch["images"].dtype not in BLENDED:
            raise ValueError(
                f"MixUp cannot blend images of {batch['images'].dtype.name}: pass whole numbers of "
                "at most 32 bits or floats, or use CutMix, which copies"
            )
        blended = batch.get("segmentation_masks")
        if blended is not None and not blended.dtype.is_floating:
            raise ValueError(
                f"MixUp blends segmentation_masks, which {blended.dtype.name} class numbers do "
                "not allow: pass them one-hot as float32, or use CutMix"
            )
        return batch


@keras.saving.register_keras_serializable("tf_cutnmix")
class FMix(Mixing):
    """FMix (Harris et al. 2020): masks of any shape; all peers see the same one.

    Images stay `[B, H, W, C]`; labels are exact to the pixel. See `sampling.sample_mask`.

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

    def sample(self, step: tf.Tensor | int, shape: tuple[Any, Any, Any]) -> MaskDraw:
        return sampling.sample_mask(
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
    check_settings(alpha, num_classes, ratio_per)
    check_boxes(num_peers, regions)
    batch = checked({"images": images, "labels": labels}, num_classes)
    images, labels = batch["images"], batch["labels"]
    check_views(images, num_peers)
    height, width = sides(images)
    draw = sampling.sample(
        seed,
        step,
        (tf.shape(images)[0], height, width),
        alpha=alpha,
        num_peers=num_peers,
        ratio_per=ratio_per,
        regions=regions,
    )
    return paste(images, draw), labels_by_area(labels, draw, height, width)


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
