"""What happens between the steps of every training: divergence stops it, held-out parts learn."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_cutnmix.distillation.forward import HeldOutPart
from tf_cutnmix.distillation.unpacking import unpack
from tf_cutnmix.mixing.labels import soft_labels


class StopAtDivergence(keras.callbacks.Callback):
    """Looks at the flag that the train step sets; rarely, because looking waits for a GPU."""

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.calls = 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.calls += 1
        if self.calls % 50 == 1:
            self.model.check_finite()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.model.check_finite()


class LearnHeldOut(keras.callbacks.Callback):
    """Shows a part the peers' predictions on the validation data after each epoch.

    Raises:
      ValueError: there are no such data.
    """

    def __init__(self, part: HeldOutPart, method: str, validation_data: Any) -> None:
        super().__init__()
        if validation_data is None:
            raise ValueError(f"{method} learns from held-out images: pass validation_data")
        self.part = part
        if not isinstance(validation_data, tf.data.Dataset | keras.utils.PyDataset):
            validation_data = tf.data.Dataset.from_tensor_slices(validation_data).batch(500)
        self.validation_data = validation_data

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.predict = tf.function(self.model.predict_each, autograph=False)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        probabilities, labels, weights = [], [], []
        for data in _once(self.validation_data):
            images, batch_labels, counted = unpack(data, self.model.num_classes)
            predictions = self.predict(images)
            peers = [predictions[f"peer{i + 1}"] for i in range(len(self.model.peers))]
            probabilities.append(tf.stack(peers))
            labels.append(soft_labels(batch_labels, self.model.num_classes))
            weights.append(np.ones(len(labels[-1])) if counted is None else counted)
        self.part.learn(
            np.concatenate(probabilities, axis=1), np.concatenate(labels), np.concatenate(weights)
        )


def _once(batches: tf.data.Dataset | keras.utils.PyDataset) -> Iterator[Any]:
    """Each batch once."""
    if isinstance(batches, tf.data.Dataset):
        yield from batches
    else:
        for number in range(batches.num_batches):
            yield batches[number]
