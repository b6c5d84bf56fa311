"""From a batch of Keras to what each peer sees: augmented once, then mixed by one draw."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_cutnmix.mixing.batch import CLASS_NUMBERS, dimensions, require, sides, soft_labels
from tf_cutnmix.mixing.draws import SteppedLayer
from tf_cutnmix.mixing.layers import CutNMix, Mixing


def unpack(data: Any, num_classes: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Images, labels and weights of a batch, in any form that Keras understands.

    Args:
      data: `(images, labels)`, `(images, labels, sample_weight)`, or a dictionary with "images",
        "labels" and perhaps "sample_weight". Labels are class numbers `[B]` or `[B, 1]`, of a
        float dtype if need be, or one-hot or soft `[B, K]`; weights are `[B]` or `[B, 1]`.
      num_classes: `K`.

    Returns:
      Images `[B, H, W, C]`; labels, integers `[B]` or `[B, K]`; weights `[B]` float32, or None.

    Raises:
      ValueError: it is none of them.
    """
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    if isinstance(images, Mapping) and labels is None:
        images, labels, weights = (images.get(n) for n in ("images", "labels", "sample_weight"))
    if images is None or labels is None:
        raise ValueError(
            "OnlineDistiller needs pairs (images, labels), triples with sample weights, or "
            "dictionaries with 'images' and 'labels'"
        )
    images, labels = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
    if labels.shape.rank is None:
        # Keras forgets the rank where it was fitted with [B] and then with [B, 1].
        columns = tf.reshape(labels, [tf.shape(images)[0], -1])
        padding = num_classes - tf.shape(columns)[1]
        labels = tf.cond(
            tf.equal(tf.shape(columns)[1], 1),
            lambda: soft_labels(_class_numbers(columns[:, 0], num_classes), num_classes),
            lambda: tf.pad(tf.cast(columns, tf.float32), [[0, 0], [0, padding]]),
        )
        labels = tf.ensure_shape(labels, [None, num_classes])
    elif labels.shape.rank == 1 or labels.shape[1:] == [1]:
        labels = _class_numbers(tf.reshape(labels, [-1]), num_classes)
    if weights is not None:
        weights = tf.cast(weights, tf.float32)
        if weights.shape.rank not in (None, 1) and weights.shape[1:] != [1]:
            raise ValueError(f"sample weights must be [B] or [B, 1]. Received: {weights.shape}")
        weights = tf.reshape(weights, [-1])
    return images, labels, weights


def _class_numbers(labels: tf.Tensor, num_classes: int) -> tf.Tensor:
    """Class numbers `[B]` of any numeric dtype as integers, -1 for what XLA lets pass."""
    if not labels.dtype.is_floating:
        return labels
    numbers = tf.cast(labels, tf.float64)
    known = (numbers == tf.round(numbers)) & (numbers >= 0) & (numbers < num_classes)
    require(known, CLASS_NUMBERS.format(num_classes - 1), labels)
    return tf.cast(tf.where(known, labels, -1), tf.int32)


class MixedBatch(NamedTuple):
    """What a step shows `n` peers of one batch, or of several one after another.

    Attributes:
      views: of each peer, `[B, H, W, C]`; one object where they see the same.
      labels: `[B, K]` float32, mixed as the views are.
      unmixed: what each peer would see were nothing mixed, likewise.
      draws: how each batch was mixed; none without mixing and of somebody else's layer.
    """

    views: list[tf.Tensor]
    labels: tf.Tensor
    unmixed: list[tf.Tensor]
    draws: tuple[Any, ...]


class Views:
    """From batches to a view for each peer.

    Args:
      augment: and `mixing`, of `OnlineDistiller`.
      num_peers: `n`.
      own: whether each peer gets an augmentation of its own.
      known: whether it must be known how a batch is mixed: predictions on unmixed images are mixed
        too, or images without a label apart.

    Raises:
      ValueError: augmentation or mixing is no layer; the mixing makes another number of views, or
        cannot mix them alike.
    """

    def __init__(
        self,
        augment: keras.layers.Layer | None,
        mixing: keras.layers.Layer | None,
        num_peers: int,
        own: bool,
        known: bool,
    ) -> None:
        for name, layer in {"augment": augment, "mixing": mixing}.items():
            if not isinstance(layer, keras.layers.Layer | None):
                raise ValueError(f"{name} must be a layer, or None. Received: {layer!r}")
        made = getattr(mixing, "num_peers", num_peers)
        if made != num_peers:
            raise ValueError(f"mixing makes {made} views for {num_peers} peers: make them equal")
        if not isinstance(mixing, Mixing | None):
            name = type(mixing).__name__
            if own and augment is not None:
                raise ValueError(
                    f"{name} cannot mix views of each peer's own alike: pass own_views=False, or a "
                    "layer of tf_cutnmix.mixing"
                )
            if known:
                raise ValueError(
                    f"{name} cannot mix answers as it mixes labels, nor images without a label "
                    "apart: pass a layer of tf_cutnmix.mixing"
                )
        self.augment: Any = augment
        self.mixing: Any = mixing
        self.num_peers = num_peers
        self.own = own
        self.boxes_differ = isinstance(mixing, CutNMix) and num_peers > 1
        self._augmented = _compiled(self._augment, augment)
        self._mixed = _compiled(self._mix, mixing)

    def __call__(
        self, batches: Sequence[tuple[tf.Tensor, tf.Tensor, tf.Tensor]], step: tf.Tensor
    ) -> MixedBatch:
        """What the peers see of batches, one after another.

        Args:
          batches: images `[B, H, W, C]`, labels `[B, K]` and the step to mix at, of each.
          step: to augment at.
        """
        images = tf.concat([images for images, _, _ in batches], axis=0)
        labels = tf.concat([labels for _, labels, _ in batches], axis=0)
        if self.augment is not None:
            images = self._augmented(images, step)
        unmixed = self._apart(images)
        if self.mixing is None:
            return MixedBatch(unmixed, labels, unmixed, ())
        mixed = [
            self._mixed(part, labels, at)
            for part, (_, labels, at) in zip(tf.split(images, len(batches)), batches, strict=True)
        ]
        views, mixed_labels, draws = zip(*mixed, strict=True)
        known = draws if isinstance(self.mixing, Mixing) else ()
        seen = self._apart(tf.concat(views, axis=0))
        return MixedBatch(seen, tf.concat(mixed_labels, axis=0), unmixed, known)

    def mix_labels(self, labels: tf.Tensor, mixed: MixedBatch) -> tf.Tensor:
        """Labels, or predictions on the unmixed images, `[B, K]`, mixed as the views were.

        Raises:
          ValueError: the mixing is somebody else's layer, whose draws are not known.
        """
        if self.mixing is None:
            return labels
        if not mixed.draws:
            raise ValueError(
                f"{type(self.mixing).__name__} does not say how it mixed a batch, which weights of "
                "samples need: use a layer of tf_cutnmix.mixing"
            )
        size = sides(mixed.unmixed[0])
        parts = zip(tf.split(labels, len(mixed.draws)), mixed.draws, strict=True)
        return tf.concat([self.mixing.mix_labels(part, draw, *size) for part, draw in parts], 0)

    def _apart(self, images: tf.Tensor) -> list[tf.Tensor]:
        separate = images.shape.rank == 5
        return tf.unstack(images, axis=1) if separate else [images] * self.num_peers

    def _augment(self, images: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Augmented images `[B, H, W, C]`, or `[B, n, H, W, C]` if each peer has its own."""
        if not self.own:
            return _called(self.augment, images, step)
        copies = _called(self.augment, tf.repeat(images, self.num_peers, axis=0), step)
        return tf.reshape(copies, [-1, self.num_peers, *dimensions(copies)[1:]])

    def _mix(
        self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, Any]:
        """Views and labels of one batch, and the draw that they were made by, if it is known."""
        batch, draw = {"images": images, "labels": labels}, ()
        if isinstance(self.mixing, Mixing):
            draw = self.mixing.draw_for(batch, step)
            mixed = self.mixing.apply(batch, draw)
        else:
            mixed = _called(self.mixing, batch, step)
        return mixed["images"], mixed["labels"], draw


def _called(layer: keras.layers.Layer, inputs: Any, step: tf.Tensor) -> Any:
    """What a layer makes of its inputs in training, at a step if it knows of steps."""
    steps = {"step": step} if "step" in inspect.signature(layer.call).parameters else {}
    return layer(inputs, training=True, **steps)


def _compiled(function: Callable, layer: keras.layers.Layer | None) -> Callable:
    """A function of one layer, compiled by XLA in a graph unless the layer is somebody else's.

    XLA pays for augmenting and for mixing on a CPU too, where it does not for networks. Not for
    both at once: it would recompute the one for every pixel of the other. What is done once, as
    for a picture of the first batch, takes longer to compile than to do.
    """
    if not (isinstance(layer, SteppedLayer) and layer.supports_jit):
        return tf.function(function, autograph=False)
    compiled = tf.function(function, jit_compile=True, autograph=False)
    return lambda *inputs: (function if tf.executing_eagerly() else compiled)(*inputs)
