"""What overflows behind a BatchNormalization takes its step back."""

import random

import keras
import numpy as np
import pytest

from tests.tiny_peers import CLASSES
from tf_cutnmix import OnlineDistiller
from tf_cutnmix.errors import DivergenceError


def amplified_network() -> keras.Model:
    """A network that multiplies its images by one weight before it normalises them."""
    images = keras.Input((8, 8, 3))
    x = keras.layers.DepthwiseConv2D(1, use_bias=False, depthwise_initializer="ones")(images)
    x = keras.layers.BatchNormalization()(x)
    features = keras.layers.GlobalMaxPooling2D()(x)
    return keras.Model(
        images, {"features": features, "logits": keras.layers.Dense(CLASSES)(features)}
    )


def state_of(model: OnlineDistiller) -> dict[str, np.ndarray]:
    variables = [v for network in model.networks.values() for v in network.variables]
    variables += [*model.optimizer.variables, model.step]
    return {f"{i} {v.path}": v.numpy() for i, v in enumerate(variables)}


@pytest.mark.parametrize("owner", ["peers", "averages"])
def test_a_step_in_which_a_moving_variance_overflows_is_taken_back(owner):
    random.seed(0)
    model = OnlineDistiller([amplified_network(), amplified_network()], None, "cutnmix")
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), run_eagerly=True)
    images = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3)).astype("float32")
    labels = np.arange(4)
    model.train_on_batch(images, labels)
    weight = getattr(model, owner)[1].layers[1].weights[0]
    # The square of 1e20 is beyond float32; what is divided by its root is not.
    weight.assign(1e20 * np.ones(weight.shape))
    before = state_of(model)
    with pytest.raises(
        DivergenceError, match="step 1: the statistic of BatchNormalization is not finite"
    ):
        model.train_on_batch(images, labels)
    assert np.all(np.isfinite([metric.result() for metric in model.loss_metrics]))
    for (name, found), expected in zip(state_of(model).items(), before.values(), strict=True):
        np.testing.assert_array_equal(found, expected, err_msg=name)
