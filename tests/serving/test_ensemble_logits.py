"""The logits of several networks."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logsumexp, softmax

from tests.tiny_peers import tiny_peer
from tf_cutnmix.serving.signatures import signatures


def sure_network(seed: int) -> keras.Model:
    """A network whose logits are far from 0 and from those of another seed."""
    random.seed(seed)
    network = tiny_peer()
    *others, bias = network.get_weights()
    network.set_weights([*others, np.random.default_rng(seed).normal(3, 2, bias.shape)])
    return network


@pytest.mark.parametrize("count", [2, 3])
def test_the_logits_of_several_networks_are_the_logarithm_of_their_mean_probability(count):
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype("uint8")
    networks = [sure_network(seed) for seed in range(count)]
    answer = signatures(networks, max_pixels=1000)["serving_default"](tf.constant(images))
    apart = [np.float64(network(images, training=False)["logits"]) for network in networks]
    expected = np.mean([softmax(logits, axis=-1) for logits in apart], axis=0)
    np.testing.assert_allclose(answer["logits"], np.log(expected), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logsumexp(answer["logits"], axis=-1), 0, atol=1e-5)
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        softmax(np.float64(answer["logits"]), axis=-1), answer["probabilities"], rtol=1e-5
    )
