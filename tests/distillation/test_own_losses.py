"""What layers of the peers add to the loss by themselves."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.networks.small_networks import pixels
from tf_cutnmix import OnlineDistiller, adapt, share_stages

KERNEL, ACTIVITY, ADDED = 0.01, 0.003, 0.5


class Adding(keras.layers.Layer):
    """Adds the mean square of its inputs to the loss, and nothing to them."""

    def call(self, inputs):
        self.add_loss(ADDED * tf.reduce_mean(tf.square(inputs)))
        return inputs


def peer(**settings) -> keras.Model:
    images = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(images)
    maps = keras.layers.Conv2D(4, 3, name="maps", **settings)(x)
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(Adding()(maps)))
    return adapt(model, 10, stages={"stage1": "maps"})


def regularised() -> keras.Model:
    return peer(
        kernel_regularizer=keras.regularizers.L2(KERNEL),
        activity_regularizer=keras.regularizers.L1(ACTIVITY),
    )


def expected(network: keras.Model, images: np.ndarray, regularised: bool) -> float:
    kernel, bias = network.get_layer("maps").get_weights()
    windows = np.lib.stride_tricks.sliding_window_view(images / 255, (3, 3, 3), (1, 2, 3))
    maps = np.einsum("bhwkijc,ijcd->bhwd", windows, kernel) + bias
    total = ADDED * np.mean(np.square(maps))
    if regularised:
        # Keras divides what it sums over a batch's activities by the batch.
        total += KERNEL * np.sum(np.square(kernel)) + ACTIVITY * np.abs(maps).sum() / len(images)
    return float(total)


def first_step(peers: list[keras.Model], **settings) -> dict[str, float]:
    model = OnlineDistiller(peers, method="independent")
    model.compile(keras.optimizers.SGD(0.0), **settings)
    return model.train_on_batch(pixels(), np.arange(4), return_dict=True)


@pytest.mark.parametrize("settings", [{"run_eagerly": True}, {"jit_compile": True}])
def test_regularizers_and_added_losses_are_a_term_of_the_loss(settings):
    peers = [regularised(), peer()]
    logs = first_step(peers, **settings)
    sums = [expected(p, pixels(), r) for p, r in zip(peers, (True, False), strict=True)]
    assert logs["peers_losses"] == pytest.approx(sum(sums), rel=1e-4)
    assert logs["loss"] == pytest.approx(logs["cross_entropy"] + logs["peers_losses"], rel=1e-5)


def test_what_peers_share_adds_once_where_they_see_one_view():
    peers = share_stages([regularised(), regularised()], "stage1")
    model = OnlineDistiller(peers, method="independent")
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    logs = model.train_on_batch(pixels(), np.arange(4), return_dict=True)
    kernel, bias = model.run_peers.joined.get_layer("maps").get_weights()
    windows = np.lib.stride_tricks.sliding_window_view(pixels() / 255, (3, 3, 3), (1, 2, 3))
    maps = np.einsum("bhwkijc,ijcd->bhwd", windows, kernel) + bias
    stage = KERNEL * np.sum(np.square(kernel)) + ACTIVITY * np.abs(maps).sum() / 4
    assert logs["peers_losses"] == pytest.approx(
        stage + 2 * ADDED * np.mean(np.square(maps)), rel=1e-4
    )


def test_the_losses_of_peers_have_gradients():
    network = peer(kernel_regularizer=keras.regularizers.L2(1e3))
    before = np.abs(network.get_layer("maps").get_weights()[0]).sum()
    model = OnlineDistiller([network], method="independent")
    model.compile(keras.optimizers.SGD(1e-4), run_eagerly=True)
    model.train_on_batch(pixels(), np.arange(4))
    assert np.abs(network.get_layer("maps").get_weights()[0]).sum() < 0.9 * before


def test_peers_without_losses_of_their_own_have_no_such_term():
    plain = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    model = OnlineDistiller([adapt(plain, 10)], method="independent")
    assert model.term_names == ["cross_entropy"]


def test_a_single_logit_is_refused():
    images = keras.Input((8, 8, 3))
    features = keras.layers.Flatten()(images)
    one = keras.Model(images, {"features": features, "logits": keras.layers.Dense(1)(features)})
    with pytest.raises(ValueError, match="2 or more classes"):
        OnlineDistiller([one], method="independent")


@pytest.mark.parametrize("sides", [(None, None), (8, None)])
def test_peers_of_any_size_may_have_layers_of_ones_own(sides):
    images = keras.Input((*sides, 3))
    x = Adding()(keras.layers.Conv2D(4, 3)(images))
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))
    assert first_step([adapt(model, 10)], run_eagerly=True)["peers_losses"] > 0
