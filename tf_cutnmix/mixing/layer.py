"""A mixing as a Keras layer: a draw, and what it does to a batch."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tf_cutnmix.mixing import draws, sampling
from tf_cutnmix.mixing.batch import check_settings, check_when, checked, picture_names
from tf_cutnmix.mixing.labels import labels_by_area
from tf_cutnmix.mixing.masks import MaskDraw
from tf_cutnmix.mixing.pasting import sides
from tf_cutnmix.mixing.sampling import Draw


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
