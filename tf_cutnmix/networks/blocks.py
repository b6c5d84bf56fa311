"""The layers that the families of networks share."""

import keras
import tensorflow as tf


def convolution(
    x: keras.KerasTensor, filters: int, size: int = 3, strides: int = 1, *, use_bias: bool = False
) -> keras.KerasTensor:
    """One that pads, initialised as in He et al., "Delving Deep into Rectifiers" (2015)."""
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

    def call(self, inputs: tf.Tensor, training: bool = False, mask: None = None) -> tf.Tensor:
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
    own = tf.stack([*sums, tf.fill(tf.shape(sums[0]), _count(maps))])
    context = tf.distribute.get_replica_context()
    total, squares, count = tf.unstack(context.all_reduce(tf.distribute.ReduceOp.SUM, own))
    mean = total / count
    return [mean, tf.maximum(squares / count - tf.square(mean), 0.0)]


def _count(maps: tf.Tensor) -> tf.Tensor:
    """How many values each channel has, float32."""
    return tf.cast(tf.size(maps) // maps.shape[-1], tf.float32)


@keras.saving.register_keras_serializable("tf_cutnmix")
class Normalization(keras.layers.Normalization):
    """Keras' layer, by the weights that it has.

    Keras' own goes on with those of its last `adapt` after its weights are set.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        self.finalize_state()
        return super().call(inputs)


def batch_normalisation(x: keras.KerasTensor) -> keras.KerasTensor:
    """BatchNormalization with the constants that all families use."""
    return BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def rectified(x: keras.KerasTensor) -> keras.KerasTensor:
    """`x` after BatchNormalization and ReLU."""
    return keras.layers.ReLU()(batch_normalisation(x))


def pooled(x: keras.KerasTensor) -> keras.KerasTensor:
    """The mean of each channel, `[B, C]`."""
    return keras.layers.GlobalAveragePooling2D(name="features")(x)
