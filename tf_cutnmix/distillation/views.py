"""What each peer sees of a batch: augmented, then mixed."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_cutnmix.mixing.draws import SteppedLayer
from tf_cutnmix.mixing.layer import Mixing
from tf_cutnmix.mixing.layers import CutNMix
from tf_cutnmix.mixing.pasting import dimensions
from tf_cutnmix.mixing.sampling import overlap

Batch = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


class Views:
    """From batches to a view for each peer.

    Args:
      augment: of `OnlineDistiller`.
      mixing: of `OnlineDistiller`.
      num_peers: `n`.
      own: whether each peer gets an augmentation of its own.
      mixes_answers: whether answers for unmixed images are to be mixed too.

    Raises:
      ValueError: the mixing makes another number of views, or cannot mix them alike.
    """

    def __init__(
        self,
        augment: keras.layers.Layer | None,
        mixing: keras.layers.Layer | None,
        num_peers: int,
        own: bool,
        mixes_answers: bool = False,
    ) -> None:
        made = getattr(mixing, "num_peers", num_peers)
        if made != num_peers:
            raise ValueError(f"mixing makes {made} views for {num_peers} peers: make them equal")
        if not isinstance(augment, keras.layers.Layer | None):
            raise ValueError(f"augment must be a layer, or None. Received: {augment!r}")
        if not isinstance(mixing, Mixing | None):
            name = type(mixing).__name__
            if own and augment is not None:
                raise ValueError(
                    f"{name} cannot mix views of each peer's own alike: pass own_views=False, or a "
                    "layer of tf_cutnmix.mixing"
                )
            if mixes_answers:
                raise ValueError(
                    f"{name} cannot mix answers as it mixes labels: pass ensemble_view=mixed, or "
                    "a layer of tf_cutnmix.mixing"
                )
        self.augment: Any = augment
        self.mixing: Any = mixing
        self.num_peers = num_peers
        self.own = own
        self.boxes_differ = isinstance(mixing, CutNMix) and num_peers > 1
        self._augmented = _compiled(self._augment, augment)
        self._mixed = _compiled(self._mix, mixing)

    def __call__(
        self, batches: Sequence[Batch], step: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor, list[tf.Tensor]]:
        """Views and labels of batches, one after another.

        Args:
          batches: images `[B, H, W, C]`, labels `[B, K]` and the step to mix at, of each.
          step: to augment at.

        Returns:
          A view `[B, H, W, C]` for each peer, one object where they see the same, `B` of all
          batches; labels `[B, K]`; the mean overlap of the peers' boxes in the last batch, if
          they have boxes of their own.
        """
        images, labels, overlaps = self._augment_and_mix(batches, step)
        return self._apart(images), labels, overlaps

    def unmixed(self, images: tf.Tensor, step: tf.Tensor) -> list[tf.Tensor]:
        """What each peer would see of images `[B, H, W, C]` at a step, were they not mixed."""
        if self.augment is not None:
            images = self._augmented(images, step)
        return self._apart(images)

    def mix_answers(self, answers: tf.Tensor, images: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Distributions `[B, K]` for unmixed images, mixed as these images' labels are.

        Raises:
          ValueError: the mixing is somebody else's layer, whose draws are not known.
        """
        if self.mixing is None:
            return answers
        if not isinstance(self.mixing, Mixing):
            raise ValueError(
                f"{type(self.mixing).__name__} does not say how it mixed a batch, which weights of "
                "samples need: use a layer of tf_cutnmix.mixing"
            )
        batch, height, width, _ = dimensions(images)
        draw = self.mixing.draw(step, (batch, height, width))
        return self.mixing.mix_labels(answers, draw, height, width)

    def _apart(self, images: tf.Tensor) -> list[tf.Tensor]:
        separate = images.shape.rank == 5
        return tf.unstack(images, axis=1) if separate else [images] * self.num_peers

    def _augment_and_mix(
        self, batches: Sequence[Batch], step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        images = tf.concat([images for images, _, _ in batches], axis=0)
        if self.augment is not None:
            images = self._augmented(images, step)
        if self.mixing is None:
            return images, tf.concat([labels for _, labels, _ in batches], axis=0), []
        mixed = [
            self._mixed(part, labels, at)
            for part, (_, labels, at) in zip(tf.split(images, len(batches)), batches, strict=True)
        ]
        views, labels, overlaps = zip(*mixed, strict=True)
        return tf.concat(views, axis=0), tf.concat(labels, axis=0), overlaps[-1]

    def _augment(self, images: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Augmented images `[B, H, W, C]`, or `[B, n, H, W, C]` if each peer has its own."""
        if not self.own:
            return _called(self.augment, images, step)
        copies = tf.repeat(images, self.num_peers, axis=0)
        copies = _called(self.augment, copies, step)
        return tf.reshape(copies, [-1, self.num_peers, *images.shape[1:]])

    def _mix(
        self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Views and labels of one batch, and the overlap of its boxes."""
        mixed = _called(self.mixing, {"images": images, "labels": labels}, step)
        overlaps = []
        if self.boxes_differ:
            size = tf.shape(images)
            overlaps = [overlap(self.mixing.draw(step, (size[0], size[-3], size[-2])))]
        return mixed["images"], mixed["labels"], overlaps


def _called(layer: keras.layers.Layer, inputs: Any, step: tf.Tensor) -> Any:
    """What a layer makes of its inputs in training, at a step if it knows of steps."""
    if "step" in inspect.signature(layer.call).parameters:
        return layer(inputs, training=True, step=step)
    return layer(inputs, training=True)


def _compiled(function: Callable, layer: keras.layers.Layer | None) -> Callable:
    """A function of one layer, compiled by XLA in a graph unless the layer is somebody else's.

    XLA pays for augmenting and for mixing on a CPU too, where it does not for networks. Not for
    both at once: it would compute the one anew for every pixel of the other. What is done once,
    as for a picture of the first batch, takes longer to compile than to do.
    """
    if not (isinstance(layer, SteppedLayer) and layer.supports_jit):
        return tf.function(function, autograph=False)
    compiled = tf.function(function, jit_compile=True, autograph=False)
    return lambda *inputs: (function if tf.executing_eagerly() else compiled)(*inputs)
