"""What the families of networks share: their layers, and the arithmetic of their depths."""

import keras
import numpy as np
import tensorflow as tf

from tf_cutnmix.errors import InputError

_DEEPEST = 2000


def blocks_per_stage(
    name: str, form: str, depth: int, each: int, rest: int, *, hint: str = ""
) -> int:
    """The n of a depth `each * n + rest`.

    Args:
      name: the network's, as it was passed.
      form: the name with `{}` in place of the depth.
      depth: layers with weights.
      each: of them, those that each step of n adds.
      rest: of them, those that are there for any n.
      hint: ends the message of the error.

    Raises:
      InputError: no n of 1 or more gives the depth, or it would take hours to build.
    """
    if depth > _DEEPEST:
        raise InputError(f"--arch={name}: the depth must be at most {_DEEPEST}")
    n = max(1, (depth - rest) // each)
    if depth != each * n + rest:
        lower, upper = (form.format(each * m + rest) for m in (n, n + 1))
        raise InputError(
            f"--arch={name}: the depth must be {each}n+{rest}, such as {lower} or {upper}{hint}"
        )
    return n


def convolution(
    x: keras.KerasTensor,
    filters: int,
    size: int = 3,
    strides: int = 1,
    *,
    use_bias: bool = False,
) -> keras.KerasTensor:
    """`[B, h, w, C]` to `[B, ceil(h / strides), ceil(w / strides), filters]`.

    Initialised as in He et al., "Delving Deep into Rectifiers" (2015), equation 10.
    """
    return keras.layers.Conv2D(
        filters,
        size,
        strides,
        padding="same",
        use_bias=use_bias,
        kernel_initializer="he_normal",
    )(x)


def depthwise_convolution(x: keras.KerasTensor, strides: int) -> keras.KerasTensor:
    """A 3x3 convolution of each channel for itself, initialised as the others are."""
    return keras.layers.DepthwiseConv2D(
        3,
        strides,
        padding="same",
        use_bias=False,
        # "he_normal" would take all channels for the fan-in, which is 9 here.
        depthwise_initializer=keras.initializers.RandomNormal(stddev=(2 / 9) ** 0.5),
    )(x)


@keras.saving.register_keras_serializable("tf_cutnmix")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer for maps `[B, h, w, C]`, by TensorFlow's single operation.

    Keras computes it in a dozen operations, which take a quarter of a training step on a CPU.
    Weights, results and moving statistics are the same, these of the biased variance. One that is
    `synchronized` sees the maps of all devices, which exchange two numbers a channel at once.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        update = training and self.trainable
        gamma, beta = (tf.cast(v.value, tf.float32) for v in (self.gamma, self.beta))
        moving = [self.moving_mean, self.moving_variance]
        if update and self.synchronized and tf.distribute.has_strategy():
            batch = _of_all_devices(inputs)
            scale = gamma * tf.math.rsqrt(batch[1] + self.epsilon)
            outputs = tf.cast(inputs, tf.float32) * scale + (beta - batch[0] * scale)
            outputs = tf.cast(outputs, inputs.dtype)
        else:
            outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                inputs,
                gamma,
                beta,
                *([] if update else [v.value for v in moving]),
                epsilon=self.epsilon,
                is_training=update,
            )
            # The operation's variance is the unbiased one.
            batch = [mean, variance * (1.0 - 1.0 / _count(inputs))]
        if update:
            old, new = tf.constant(self.momentum), tf.constant(1.0 - self.momentum)
            for variable, value in zip(moving, batch, strict=True):
                variable.assign(old * variable.value + new * value)
        return outputs


def _of_all_devices(maps: tf.Tensor) -> list[tf.Tensor]:
    """Mean and biased variance `[C]` float32 of each channel, of the maps of all devices."""
    maps = tf.cast(maps, tf.float32)
    sums = [tf.reduce_sum(values, axis=[0, 1, 2]) for values in (maps, tf.square(maps))]
    own = tf.stack([*sums, tf.fill(tf.shape(sums[0]), tf.cast(_count(maps), tf.float32))])
    context = tf.distribute.get_replica_context()
    total, squares, count = tf.unstack(context.all_reduce(tf.distribute.ReduceOp.SUM, own))
    mean = total / count
    return [mean, tf.maximum(squares / count - tf.square(mean), 0.0)]


def _count(maps: tf.Tensor) -> tf.Tensor | np.float32:
    """How many values each channel has; known when the graph is made where the batch is."""
    count = maps.shape.num_elements()
    if count is None:
        return tf.cast(tf.size(maps) // maps.shape[-1], tf.float32)
    return np.float32(count // maps.shape[-1])


def batch_normalisation(x: keras.KerasTensor) -> keras.KerasTensor:
    """BatchNormalization with the constants that all families use."""
    return BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def rectified(x: keras.KerasTensor) -> keras.KerasTensor:
    """`x` after BatchNormalization and ReLU."""
    return keras.layers.ReLU()(batch_normalisation(x))


def pooled(x: keras.KerasTensor) -> keras.KerasTensor:
    """The mean of each channel, `[B, C]`."""
    return keras.layers.GlobalAveragePooling2D(name="features")(x)
