"""Peers drawn to their mean."""

import random

import numpy as np
import pytest

from tests.distillation.small_models import batch_of, compiled, small_network
from tf_cutnmix import Method, OnlineDistiller
from tf_cutnmix.errors import InputError


def pulled(every: int, count: int = 3, **how) -> OnlineDistiller:
    """Peers that learn nothing: what moves their weights is the pull alone."""
    random.seed(0)
    peers = [small_network() for _ in range(count)]
    model = OnlineDistiller(peers, None, Method("cutnmix", pull_every=every))
    return compiled(model, rate=0.0, **how)


def weights(model: OnlineDistiller) -> list[list[np.ndarray]]:
    return [[v.numpy() for v in peer.trainable_variables] for peer in model.peers]


@pytest.mark.parametrize(("every", "how"), [(1, {"run_eagerly": True}), (3, {"jit_compile": True})])
def test_weights_move_a_hundredth_of_the_way_to_their_mean_when_it_is_time(every, how):
    model = pulled(every, **how)
    for step in range(1, 7):
        before = weights(model)
        model.train_on_batch(*batch_of(step))
        rate = 0.01 if step % every == 0 else 0.0
        means = [np.mean(one, axis=0) for one in zip(*before, strict=True)]
        for own, found in zip(before, weights(model), strict=True):
            for value, mean, after in zip(own, means, found, strict=True):
                np.testing.assert_allclose(after, value + rate * (mean - value), atol=1e-7)
    assert not np.allclose(weights(model)[0][0], weights(model)[1][0])


def test_without_a_pull_weights_stay():
    model = pulled(0)
    before = weights(model)
    model.train_on_batch(*batch_of(0))
    for own, found in zip(before, weights(model), strict=True):
        for value, after in zip(own, found, strict=True):
            np.testing.assert_array_equal(after, value)


def test_peers_of_unlike_shapes_cannot_be_pulled():
    with pytest.raises(InputError, match="peers of one architecture"):
        OnlineDistiller([small_network(5), small_network(6)], None, Method(pull_every=1))
