"""The layers that families of networks share, against Keras' own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_cutnmix.networks.blocks import BatchNormalization

EPSILON = np.finfo(np.float32).eps


@pytest.fixture
def maps():
    return np.random.default_rng(0).normal(1.0, 2.0, (4, 3, 5, 6)).astype(np.float32)


def normalise(layer, maps, training, jit_compile):
    """Outputs, gradients of the inputs, of gamma and of beta; moving mean and variance after."""
    layer.build(maps.shape)
    layer.set_weights(
        [np.linspace(0.5, 2, 6), np.linspace(-1, 1, 6), np.full(6, 0.5), np.full(6, 3.0)]
    )

    @tf.function(jit_compile=jit_compile)
    def outputs_and_gradients(maps):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            outputs = layer(maps, training=training)
            loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 3)
        return [outputs, *tape.gradient(loss, [maps, layer.gamma.value, layer.beta.value])]

    found = outputs_and_gradients(tf.constant(maps))
    return [np.asarray(value, np.float32) for value in [*found, *layer.get_weights()[2:]]]


@pytest.mark.parametrize(
    ("policy", "training", "jit_compile"),
    [
        *(("float32", training, jit) for training in (True, False) for jit in (True, False)),
        *(("mixed_bfloat16", True, False), ("mixed_float16", True, True)),
    ],
)
def test_batch_normalization_is_that_of_keras(maps, policy, training, jit_compile):
    settings = {"momentum": 0.9, "epsilon": 1e-5, "dtype": policy}
    ours = normalise(BatchNormalization(**settings), maps, training, jit_compile)
    theirs = normalise(keras.layers.BatchNormalization(**settings), maps, training, jit_compile)
    for found, wanted in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found, wanted, atol=20 * EPSILON * np.abs(wanted).max())


def test_a_frozen_batch_normalization_uses_and_keeps_its_statistics(maps):
    layer = BatchNormalization()
    layer.trainable = False
    layer.build(maps.shape)
    layer.set_weights([np.ones(6), np.zeros(6), np.full(6, 0.5), np.full(6, 3.0)])
    outputs = layer(maps, training=True)
    np.testing.assert_allclose(outputs, (maps - 0.5) / np.sqrt(3.0 + layer.epsilon), atol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean, np.full(6, 0.5))
    np.testing.assert_array_equal(layer.moving_variance, np.full(6, 3.0))


def test_a_map_of_one_pixel_has_no_variance():
    layer = BatchNormalization(momentum=0.5)
    outputs = layer(tf.fill([1, 1, 1, 2], 7.0), training=True)
    np.testing.assert_array_equal(outputs, np.zeros([1, 1, 1, 2]))
    np.testing.assert_array_equal(layer.moving_mean, [3.5, 3.5])
    np.testing.assert_array_equal(layer.moving_variance, [0.5, 0.5])
