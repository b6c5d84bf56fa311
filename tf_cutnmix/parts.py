"""What a step computed for the peers, and the parts that a method adds to them.

A part is trained with the peers, or remembers something between steps, and is never
exported. Each is called once a step and its result is found in `Forward.parts`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_cutnmix import losses, served
from tf_cutnmix.architectures import stages
from tf_cutnmix.errors import InputError
from tf_cutnmix.sharing import shared_stage


class Forward(NamedTuple):
    """What one step computed for `n` peers: all that a term may use.

    Attributes:
      step: number of the step, a scalar.
      labels: `[B, K]` float32, mixed.
      views: what each peer sees, `[B, H, W, C]`.
      outputs: of each peer on its view: "features" `[B, D_k]`, "logits" `[B, K]`, its stages.
      averages: of each averaged peer on its peer's view, likewise, without gradient; empty
        unless a term asks for them.
      parts: by its name, what each part of the method computed.
    """

    step: tf.Tensor
    labels: tf.Tensor
    views: Sequence[tf.Tensor]
    outputs: Sequence[Mapping[str, tf.Tensor]]
    averages: Sequence[Mapping[str, tf.Tensor]] = ()
    parts: Mapping[str, Any] = {}

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


class Part(keras.layers.Layer):
    """A layer from a `Forward` to whatever its method's terms need."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, autocast=False)
        self.built = True

    def call(self, forward: Forward) -> Any:
        raise NotImplementedError


def feature_sizes(peers: Sequence[keras.Model]) -> list[int]:
    """`D_k` of each peer."""
    return [peer.output["features"].shape[-1] for peer in peers]


def num_classes(peers: Sequence[keras.Model]) -> int:
    """`K`, the same for all peers."""
    return peers[0].output["logits"].shape[-1]


class FeatureAdapters(Part):
    """Linear maps from each peer's feature size to every other's.

    Its result holds for each pair (k, j), k != j, peer k's features in peer j's size, `[B, D_j]`.
    """

    def __init__(self, peers: Sequence[keras.Model]) -> None:
        super().__init__("feature_adapters")
        sizes = feature_sizes(peers)
        count = len(peers)
        self.pairs = [(k, j) for k in range(count) for j in range(count) if j != k]
        self.adapters = [_dense(sizes[k], sizes[j], use_bias=False) for k, j in self.pairs]

    def call(self, forward: Forward) -> dict[tuple[int, int], tf.Tensor]:
        return {
            (k, j): adapter(forward.features[k])
            for (k, j), adapter in zip(self.pairs, self.adapters, strict=True)
        }


class Gate(Part):
    """Logits `[B, K]` of the peers weighted by a gate on what they share (ONE, Lan et al. 2018).

    `softmax(ReLU(BN(W GAP(shared map))))` weighs the peers of each sample. Where peers see
    views of their own, the gate sees the mean of the shared maps.
    """

    def __init__(self, peers: Sequence[keras.Model]) -> None:
        super().__init__("gate")
        self.stage = shared_stage(peers)
        channels = peers[0].output[self.stage].shape[-1]
        self.dense = _dense(channels, len(peers))
        self.normalise = _batch_norm()
        self.normalise.build((None, len(peers)))

    def call(self, forward: Forward) -> tf.Tensor:
        maps = [tf.reduce_mean(o[self.stage], axis=[1, 2]) for o in forward.outputs]
        scores = self.normalise(self.dense(tf.add_n(maps) / len(maps)), training=True)
        weights = tf.nn.softmax(tf.cast(tf.nn.relu(scores), tf.float32))  # (B, n)
        return tf.einsum("bn,nbk->bk", weights, tf.stack(forward.logits))


class Attention(Part):
    """Each auxiliary peer's own target, `[n - 1, B, K]` logits (OKDDip, Chen et al. 2020).

    `t_a = sum_b softmax_b(<W_q h_a, W_k h_b>) z_b` over the auxiliary peers, all but the last,
    a itself among them; the projections go to an eighth of the features' size.
    """

    def __init__(self, peers: Sequence[keras.Model]) -> None:
        super().__init__("attention")
        size = feature_sizes(peers)[0]
        self.query = _dense(size, max(1, size // 8), use_bias=False)
        self.key = _dense(size, max(1, size // 8), use_bias=False)

    def call(self, forward: Forward) -> tf.Tensor:
        features = tf.stack(forward.features[:-1])
        query, key = (tf.cast(f(features), tf.float32) for f in (self.query, self.key))
        weights = tf.nn.softmax(tf.einsum("abd,cbd->bac", query, key))
        return tf.einsum("bac,cbk->abk", weights, tf.stack(forward.logits[:-1]))


class FeatureClassifier(Part):
    """Logits `[B, K]` from all peers' features side by side (PCL, Wu and Gong 2021)."""

    def __init__(self, peers: Sequence[keras.Model]) -> None:
        super().__init__("feature_classifier")
        self.dense = _dense(sum(feature_sizes(peers)), num_classes(peers))

    def call(self, forward: Forward) -> tf.Tensor:
        return tf.cast(self.dense(tf.concat(forward.features, axis=-1)), tf.float32)


class Fusion(Part):
    """Logits `[B, K]` from the peers' last maps, fused (FFL, Kim et al. 2019).

    Concatenation, a 3x3 convolution of each channel, BN-ReLU, a 1x1 convolution down to one
    peer's channels, BN-ReLU, global pooling and a classifier.
    """

    def __init__(self, peers: Sequence[keras.Model]) -> None:
        super().__init__("fusion")
        self.stages = [stages(peer)[-1] for peer in peers]
        last = [peer.output[stage] for peer, stage in zip(peers, self.stages, strict=True)]
        shapes = [tuple(tensor.shape[1:]) for tensor in last]
        if len(set(shapes)) > 1:
            raise InputError(f"--method=ffl fuses the peers' last maps, of unlike shapes {shapes}")
        channels = last[0].shape[-1]
        total = channels * len(peers)
        self.fuse = keras.Sequential(
            [
                keras.layers.Input((None, None, total)),
                keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False),
                _batch_norm(),
                keras.layers.ReLU(),
                keras.layers.Conv2D(channels, 1, use_bias=False),
                _batch_norm(),
                keras.layers.ReLU(),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(num_classes(peers)),
            ]
        )

    def call(self, forward: Forward) -> tf.Tensor:
        last = [o[stage] for o, stage in zip(forward.outputs, self.stages, strict=True)]
        return tf.cast(self.fuse(tf.concat(last, axis=-1), training=True), tf.float32)


class Embeddings(Part):
    """For each pair (i, j) of peers the similarities `[B, B]` of their embeddings.

    MCL, Yang et al. 2022:
    `S_ij = e_i e_j^T / tau`, e the unit vectors `Dense-ReLU-Dense(h)` of 128 numbers, tau = 0.1.
    """

    def __init__(self, peers: Sequence[keras.Model], size: int = 128, tau: float = 0.1) -> None:
        super().__init__("embeddings")
        self.tau = tau
        self.heads = [(_dense(d, d), _dense(d, size)) for d in feature_sizes(peers)]

    def call(self, forward: Forward) -> dict[tuple[int, int], tf.Tensor]:
        unit = [
            losses.unit(second(tf.nn.relu(first(features))))
            for (first, second), features in zip(self.heads, forward.features, strict=True)
        ]
        peers = range(len(unit))
        return {
            (i, j): tf.matmul(unit[i], unit[j], transpose_b=True) / self.tau
            for i in peers
            for j in peers
        }


class FrozenTeacher(Part):
    """Logits `[B, K]` of a trained export on each peer's view; nothing in it is trained.

    It resizes the views to its own size, which XLA cannot compile.

    Raises:
      InputError: the folder is no export, or one for another number of classes.
    """

    def __init__(self, folder: str, peers: Sequence[keras.Model]) -> None:
        super().__init__("frozen_teacher")
        self.supports_jit = False
        self.teacher = served.load(folder, "teacher")
        found, wanted = len(self.teacher.class_names), num_classes(peers)
        if found != wanted:
            raise InputError(
                f"--teacher={folder} tells {found} classes apart and the data have {wanted}"
            )

    def call(self, forward: Forward) -> list[tf.Tensor]:
        views = (
            tf.saturate_cast(tf.round(tf.cast(v, tf.float32)), tf.uint8) for v in forward.views
        )
        return [tf.stop_gradient(self.teacher.predict(images=v)["logits"]) for v in views]


class LastBatch(Part):
    """The batch before this one and what the peers said of it, `[n, B, K]` logits (DLB).

    At the first step there is none, and the batch itself takes its place.

    Args:
      peers: of which the images are.
      batch_size: `B`, of every batch.
    """

    def __init__(self, peers: Sequence[keras.Model], batch_size: int) -> None:
        super().__init__("last_batch")
        classes = num_classes(peers)
        self.images = self._memory("images", (batch_size, *peers[0].input_shape[1:]))
        self.labels = self._memory("labels", (batch_size, classes))
        self.logits = self._memory("logits", (len(peers), batch_size, classes))

    def call(self, forward: Forward) -> tf.Tensor:
        return tf.identity(self.logits.value)

    def recall(
        self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The last batch's images, of the dtype of these, and labels `[B, K]`, before mixing."""
        if images.shape[0] not in (None, self.images.shape[0]):
            raise ValueError(
                f"dlb was made for batches of {self.images.shape[0]} images and cannot take one "
                f"of {images.shape[0]}: give Method its batch_size, and drop the remainder"
            )
        first = tf.equal(step, 0)
        return (
            tf.where(first, images, tf.cast(self.images.value, images.dtype)),
            tf.where(first, labels, self.labels.value),
        )

    def remember(self, images: tf.Tensor, labels: tf.Tensor, logits: Sequence[tf.Tensor]) -> None:
        """Take a batch, before augmentation and mixing, and what the peers said of it.

        Args:
          images: `[B, H, W, C]`.
          labels: `[B, K]`.
          logits: of each peer; the last `B` rows are on this batch's views.
        """
        self.images.assign(tf.cast(images, tf.float32))
        self.labels.assign(labels)
        self.logits.assign(tf.stack([z[-self.images.shape[0] :] for z in logits]))

    def _memory(self, name: str, shape: tuple[int, ...]) -> keras.Variable:
        return self.add_weight(
            shape=shape, initializer="zeros", trainable=False, dtype="float32", name=name
        )


class HeldOutWeights(Part):
    """The weight of each peer in their ensemble, `[n]`, learnt on held-out images (KDCL-General).

    Those that minimise the ensemble's squared error, `C^-1 1 / (1' C^-1 1)` with
    `C_ij = mean <p_i - y, p_j - y>`. Negative ones are set to 0, that the ensemble may be a
    distribution (our definition). Equal until the first call of `learn`.
    """

    def __init__(self, peers: Sequence[keras.Model]) -> None:
        super().__init__("held_out_weights")
        self.weight = self.add_weight(
            shape=(len(peers),),
            initializer=keras.initializers.Constant(1 / len(peers)),
            trainable=False,
            dtype="float32",
            name="weights",
        )

    def call(self, forward: Forward) -> tf.Tensor:
        return tf.identity(self.weight.value)

    def learn(self, probabilities: np.ndarray, labels: np.ndarray) -> None:
        """Weigh the peers by their predictions `[n, N, K]` for labels `[N, K]`."""
        errors = (probabilities - labels).reshape(len(probabilities), -1).astype(np.float64)
        covariance = errors @ errors.T
        # Peers that predict alike, or without error, leave it singular.
        covariance += (1e-6 * np.trace(covariance) + 1e-12) * np.eye(len(errors))
        weights = np.maximum(np.linalg.solve(covariance, np.ones(len(errors))), 0.0)
        self.weight.assign(weights / weights.sum())


def _dense(inputs: int, outputs: int, use_bias: bool = True) -> keras.layers.Dense:
    layer = keras.layers.Dense(outputs, use_bias=use_bias)
    layer.build((None, inputs))
    return layer


def _batch_norm() -> keras.layers.BatchNormalization:
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
