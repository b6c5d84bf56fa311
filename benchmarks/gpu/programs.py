"""What is lowered: a train step and an evaluation step, as functions that XLA compiles."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from tf_cutnmix.distillation import OnlineDistiller


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
    metrics = (*model.loss_metrics, *model.overlap_metrics)
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
    """The program that counts right answers.

    From images `[B, H, W, C]` uint8 and labels `[B]` int32 to an int32 scalar for the teacher,
    the ensemble and each network. A label of -1 counts for nobody.
    """

    def eval_step(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            name: tf.math.count_nonzero(
                tf.equal(tf.argmax(prediction, axis=-1, output_type=tf.int32), labels),
                dtype=tf.int32,
            )
            for name, prediction in model.predict_each(images).items()
        }

    return _program(eval_step, image_shape, batch_size)


def _program(function: Callable, image_shape: Sequence[int], batch_size: int) -> Program:
    images = tf.TensorSpec([batch_size, *image_shape], tf.uint8)
    labels = tf.TensorSpec([batch_size], tf.int32)
    return Program(tf.function(function, jit_compile=True), (images, labels))
