"""What the networks that were trained together say of images."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_cutnmix.distillation import losses
from tf_cutnmix.distillation.unpacking import unpack
from tf_cutnmix.mixing.labels import soft_labels
from tf_cutnmix.networks import sharing


class Predictor(keras.Model):
    """`predict`, `evaluate` and `export` of peers and their averages: the teacher's, and of each.

    Attributes:
      peers: from images `[B, H, W, C]` to "features" and "logits".
      averages: likewise.
      run_peers: all of them at once.
      run_averages: likewise.
      num_classes: `K`.
      loss_metrics: of which `evaluate` shows the first, the loss.
      accuracy_metrics: of what `predict_each` says, in its order.
    """

    peers: Sequence[keras.Model]
    averages: Sequence[keras.Model]
    run_peers: sharing.Together
    run_averages: sharing.Together
    num_classes: int
    loss_metrics: Sequence[keras.metrics.Metric]
    accuracy_metrics: Sequence[keras.metrics.Metric]

    @property
    def networks(self) -> dict[str, keras.Model]:
        """Each single network by the name it has in the metrics: average1, ..., peer1, ..."""
        kinds = {"average": self.averages, "peer": self.peers}
        return {f"{k}{i}": n for k, ns in kinds.items() for i, n in enumerate(ns, start=1)}

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The teacher's probabilities, `[B, K]` float32."""
        return _mean(self._probabilities(self.run_averages, images))

    def predict_each(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Probabilities `[B, K]` float32 of the teacher, of the ensemble and of each network."""
        averages = self._probabilities(self.run_averages, images)
        peers = self._probabilities(self.run_peers, images)
        singles = zip(self.networks, (*averages, *peers), strict=True)
        return {"teacher": _mean(averages), "ensemble": _mean(peers), **dict(singles)}

    def test_step(self, data: Any) -> Mapping[str, tf.Tensor]:
        images, labels, weights = unpack(data, self.num_classes)
        classes = tf.argmax(soft_labels(labels, self.num_classes), axis=-1)
        predictions = self.predict_each(images)
        likelihood = tf.gather(predictions["teacher"], classes, batch_dims=1)
        loss = -tf.math.log(tf.maximum(likelihood, 1e-30))
        # Keras, too, divides a loss by the samples, and an accuracy by what they count.
        self.loss_metrics[0].update_state(loss if weights is None else loss * weights)
        for metric, prediction in zip(self.accuracy_metrics, predictions.values(), strict=True):
            metric.update_state(classes, prediction, weights)
        return {m.name: m.result() for m in (self.loss_metrics[0], *self.accuracy_metrics)}

    def export(self, filepath: str, *args: Any, **kwargs: Any) -> None:
        """As Keras' own, of images `[N, H, W, C]` float32 of the peers' size; called or not."""
        images = [keras.InputSpec(shape=self.peers[0].input_shape, dtype="float32")]
        super().export(filepath, *args, **{"input_signature": images, **kwargs})

    def _probabilities(self, run: sharing.Together, images: tf.Tensor) -> list[tf.Tensor]:
        outputs = run([images] * len(self.peers), training=False)
        return [losses.soften(output["logits"], 1.0) for output in outputs]


def _mean(predictions: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.add_n(list(predictions)) / len(predictions)
