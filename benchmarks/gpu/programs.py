"""What is lowered: a train step and an evaluation step, as functions that XLA compiles."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from tf_cutnmix.distillation import OnlineDistiller

_BINS = 15


class Program(NamedTuple):
    """A function that XLA compiles, and what it is called with.

    Attributes:
      function: of tensors of fixed shapes, to a flat dictionary of tensors.
      inputs: the shapes and dtypes of its arguments.
    """

    function: tf.types.experimental.PolymorphicFunction
    inputs: tuple[tf.TensorSpec, ...]


def train_program(
    model: OnlineDistiller, image_shape: Sequence[int], batch_size: int, *, steps: int = 1
) -> Program:
    """The program that makes `steps` training steps.

    From images `[steps * B, H, W, C]` uint8 and labels `[steps * B]` int32, one batch after the
    other, to scalars: the loss, its terms and `region_overlap` as means over these steps
    (float32), `learning_rate` at the first of them, `step`, how many steps were made since the
    start, and `failed_step` and `failed_term`, -1 unless a step was not finite (int64).
    """
    metrics = model.step_metrics
    take_step = tf.autograph.experimental.do_not_convert(model.train_step)

    def train_step(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        # An index into a reshaped tensor has a fixed shape, a slice has not.
        images = tf.reshape(images, [steps, batch_size, *image_shape])
        labels = tf.reshape(labels, [steps, batch_size])
        rate = tf.convert_to_tensor(model.optimizer.learning_rate)
        for metric in metrics:
            metric.reset_state()
        for i in tf.range(steps):
            take_step((images[i], labels[i]))
        return {
            **{metric.name: metric.result() for metric in metrics},
            "learning_rate": rate,
            "step": tf.identity(model.step.value),
            "failed_step": tf.identity(model.failed_step.value),
            "failed_term": tf.identity(model.failed_term.value),
        }

    return _program(train_step, image_shape, steps * batch_size)


def eval_program(model: OnlineDistiller, image_shape: Sequence[int], batch_size: int) -> Program:
    """The program of the sums from which a split's figures follow, as `runs.scores` has them.

    From images `[B, H, W, C]` uint8 and labels `[B]` int32 to float32 sums over the images whose
    label is not -1, each by the name of its figure: for the teacher, the ensemble and each network
    `<name>_accuracy`, right answers, and `<name>_calibration_error` `[16]`, right answers less
    confidence in each bin of confidence; `loss`, the teacher's negative log likelihood; of the
    peers, means over pairs, `disagreement` and `distance`.
    """

    def eval_step(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        each = model.predict_each(images)
        known = tf.cast(labels >= 0, tf.float32)
        own = tf.gather(each["teacher"], tf.maximum(labels, 0), batch_dims=1)
        sums = {"loss": tf.reduce_sum(-known * tf.math.log(tf.maximum(own, 1e-30)))}
        for name, prediction in each.items():
            right = tf.cast(tf.equal(_answers(prediction), labels), tf.float32)
            confidence = tf.reduce_max(prediction, axis=-1)
            index = tf.minimum(tf.cast(tf.math.ceil(confidence * _BINS), tf.int32), _BINS)
            bins = tf.one_hot(index, _BINS + 1)
            sums[f"{name}_accuracy"] = tf.reduce_sum(known * right)
            sums[f"{name}_calibration_error"] = tf.linalg.matvec(
                bins, known * (right - confidence), transpose_a=True
            )
        peers = [p for name, p in each.items() if name.startswith("peer")]
        pairs = list(itertools.combinations(peers, 2))
        for one, other in pairs:
            unlike = tf.cast(tf.not_equal(_answers(one), _answers(other)), tf.float32)
            distance = tf.norm(one - other, axis=-1)
            for name, value in (("disagreement", unlike), ("distance", distance)):
                total = tf.reduce_sum(known * value) / len(pairs)
                sums[name] = sums.get(name, 0.0) + total
        return sums

    return _program(eval_step, image_shape, batch_size)


def _answers(prediction: tf.Tensor) -> tf.Tensor:
    return tf.argmax(prediction, axis=-1, output_type=tf.int32)


def _program(function: Callable, image_shape: Sequence[int], batch_size: int) -> Program:
    images = tf.TensorSpec([batch_size, *image_shape], tf.uint8)
    labels = tf.TensorSpec([batch_size], tf.int32)
    return Program(tf.function(function, jit_compile=True), (images, labels))
