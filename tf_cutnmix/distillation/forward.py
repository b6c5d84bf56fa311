"""What a step computed for the peers, and the parts that a method adds to them.

A part is trained with the peers, or remembers something between steps, and is never
exported. Each is called once a step and its result is found in `Forward.parts`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf


class Forward(NamedTuple):
    """What one step computed for `n` peers: all that a term may use.

    Attributes:
      step: number of the step, a scalar.
      labels: `[B, K]` float32, mixed.
      views: what each peer sees, `[B, H, W, C]`.
      outputs: of each peer on its view: "features" `[B, D_k]`, "logits" `[B, K]`, its stages.
      averages: of each averaged peer on its peer's view, likewise, without gradient; empty
        unless a term asks for them. They saw the images unmixed if a term asks for that.
      parts: by its name, what each part of the method computed.
      mix: a function from distributions `[B, K]` for the unmixed images to those mixed as the
        labels are.
      counted: the labels `[B, K]`, each part times the weights of its sample and its class: what
        cross-entropies take. None stands for the labels.
    """

    step: tf.Tensor
    labels: tf.Tensor
    views: Sequence[tf.Tensor]
    outputs: Sequence[Mapping[str, tf.Tensor]]
    averages: Sequence[Mapping[str, tf.Tensor]] = ()
    parts: Mapping[str, Any] = {}
    mix: Any = None
    counted: tf.Tensor | None = None

    @property
    def weighted_labels(self) -> tf.Tensor:
        """The labels `[B, K]` as they count."""
        return self.labels if self.counted is None else self.counted

    @property
    def logits(self) -> list[tf.Tensor]:
        """Of each peer, `[B, K]` float32."""
        return [tf.cast(output["logits"], tf.float32) for output in self.outputs]

    @property
    def features(self) -> list[tf.Tensor]:
        """Of each peer, `[B, D_k]`."""
        return [output["features"] for output in self.outputs]

    @property
    def teacher_logits(self) -> list[tf.Tensor]:
        """Of each averaged peer, `[B, K]` float32."""
        return [tf.cast(output["logits"], tf.float32) for output in self.averages]


class Learnt(NamedTuple):
    """What a step found, before it changes anything.

    Attributes:
      logits: of each peer, `[B, K]` float32; none unless something remembers them.
      terms: of the loss, weighted, scalars.
      ramp: what its ramped terms were multiplied by, a scalar.
      gradients: of the loss, of each trained variable; None where it does not depend on one.
      statistics: new values of variables without a gradient; None where there is none.
    """

    logits: Sequence[tf.Tensor]
    terms: Sequence[tf.Tensor]
    ramp: tf.Tensor
    gradients: Sequence[tf.Tensor | None]
    statistics: Sequence[tf.Tensor | None]


class Part(keras.layers.Layer):
    """A layer whose `call` goes from a `Forward` to whatever its method's terms need.

    Attributes:
      frozen_network: a function of images `[B, H, W, C]` uint8, if the part has a network that it
        calls once for each peer and does not train.
    """

    frozen_network: Callable[[tf.Tensor], Any] | None = None

    def __init__(self, name: str) -> None:
        super().__init__(name=name, autocast=False)
        self.built = True

    def call(self, forward: Forward) -> Any:
        raise NotImplementedError


class Memory(Part):
    """A part that has a step train on an earlier batch as well, before its own."""

    def recall(
        self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The earlier batch before mixing: images of the dtype of these, labels `[B, K]`."""
        raise NotImplementedError

    def remember(self, images: tf.Tensor, labels: tf.Tensor, logits: Sequence[tf.Tensor]) -> None:
        """Take a batch, before augmentation and mixing, and what the peers said of it.

        Args:
          images: `[B, H, W, C]`.
          labels: `[B, K]`.
          logits: of each peer; the last `B` rows are on this batch's views.
        """
        raise NotImplementedError


class HeldOutPart(Part):
    """A part that learns after each epoch from images that the peers do not train on."""

    def learn(
        self, probabilities: np.ndarray, labels: np.ndarray, sample_weights: np.ndarray
    ) -> None:
        """Learn from the peers' predictions `[n, N, K]` for labels `[N, K]` of weights `[N]`."""
        raise NotImplementedError


def dense(inputs: int, outputs: int, use_bias: bool = True) -> keras.layers.Dense:
    """A built layer from `[..., inputs]` to `[..., outputs]`."""
    layer = keras.layers.Dense(outputs, use_bias=use_bias)
    layer.build((None, inputs))
    return layer


def batch_norm() -> keras.layers.BatchNormalization:
    """Keras' layer with the constants that the networks use."""
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
