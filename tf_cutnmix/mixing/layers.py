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
from tf_cutnmix.mixing import masks, sampling
from tf_cutnmix.mixing.batch import check_boxes, check_views
from tf_cutnmix.mixing.labels import mix_labels
from tf_cutnmix.mixing.layer import Mixing
from tf_cutnmix.mixing.masks import MaskDraw
from tf_cutnmix.mixing.pasting import BLENDED, as_came, blend, paste, paste_mask
from tf_cutnmix.mixing.sampling import Draw


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

    Images stay `[B, H, W, C]`; labels are exact to the pixel. See `masks.sample_mask`.

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
        return masks.sample_mask(
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
