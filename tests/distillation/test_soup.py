"""The network of the peers' mean weights, against NumPy."""

import keras
import numpy as np
import pytest

from tests.distillation.small_models import CLASSES, images_of, small_network
from tf_cutnmix.distillation import soup

BATCHES = [images_of(6, seed) for seed in range(3)] + [images_of(2, 7)]


def tuned(seed: int, dropout: float = 0.0) -> keras.Model:
    """A network whose every weight is its own, its statistics too."""
    network = small_network(dropout=dropout)
    random = np.random.default_rng(seed)
    network.set_weights([random.uniform(0.2, 1.0, w.shape) for w in network.get_weights()])
    return network


def normalisation(network: keras.Model) -> keras.layers.BatchNormalization:
    (layer,) = (n for n in network.layers if isinstance(n, keras.layers.BatchNormalization))
    return layer


def convolved(pixels: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """`[B, 3, 3, C]`, what `small_network` normalises, by loops over the kernel."""
    x = pixels.astype(np.float64) / 64 - 2
    return sum(
        x[:, i : i + 5 : 2, j : j + 5 : 2] @ kernel[i, j].astype(np.float64)
        for i in range(3)
        for j in range(3)
    )


def test_weights_are_the_mean_of_the_peers_weights():
    peers = [tuned(seed) for seed in range(3)]
    found = soup.average_network(peers, BATCHES)
    expected = [np.mean(one, axis=0) for one in zip(*(p.get_weights() for p in peers), strict=True)]
    pairs = zip(found.weights, found.get_weights(), expected, strict=True)
    compared = [(own, mean) for v, own, mean in pairs if not v.path.endswith(("mean", "variance"))]
    assert len(compared) == len(expected) - 2
    for own, mean in compared:
        np.testing.assert_allclose(own, mean, rtol=1e-6)
    assert not found.trainable_variables


def test_statistics_are_those_of_all_images_together():
    """The batches are of unlike sizes and levels, so that no mean of theirs would do."""
    batches = [batch // (k + 1) for k, batch in enumerate(BATCHES)]
    found = soup.average_network([tuned(0), tuned(1)], batches)
    before = convolved(np.concatenate(batches), found.get_weights()[0])
    layer = normalisation(found)
    np.testing.assert_allclose(layer.moving_mean, before.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, before.var((0, 1, 2)), rtol=1e-4)


def test_batches_in_another_order_give_the_same_network():
    peers = [tuned(0), tuned(1)]
    first, second = (soup.average_network(peers, order) for order in (BATCHES, BATCHES[::-1]))
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_the_soup_of_equal_peers_answers_as_they_do_once_their_statistics_are_computed_so():
    peers = [tuned(0, dropout=0.5) for _ in range(3)]
    found = soup.average_network(peers, [np.concatenate(BATCHES)])
    images = images_of(5, seed=9)
    layer = normalisation(peers[0])
    assert not np.allclose(layer.moving_mean, normalisation(found).moving_mean)
    layer.moving_mean.assign(normalisation(found).moving_mean)
    layer.moving_variance.assign(normalisation(found).moving_variance)
    expected, answer = (n(images, training=False)["logits"] for n in (peers[0], found))
    assert answer.shape == (5, CLASSES)
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5)


def test_what_is_frozen_keeps_the_mean_of_its_statistics():
    peers = [tuned(0), tuned(1)]
    for peer in peers:
        normalisation(peer).trainable = False
    found = normalisation(soup.average_network(peers, BATCHES))
    for name in ("moving_mean", "moving_variance"):
        expected = np.mean([getattr(normalisation(peer), name) for peer in peers], axis=0)
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-6)


def test_the_peers_stay_as_they_are_and_a_soup_is_normalised_as_they_are():
    peers = [tuned(0), tuned(1)]
    before = [peer.get_weights() for peer in peers]
    found = soup.average_network(peers, BATCHES)
    np.testing.assert_equal([peer.get_weights() for peer in peers], before)
    assert normalisation(found).momentum == normalisation(peers[0]).momentum == 0.9


def test_networks_without_such_layers_see_no_images():
    def plain() -> keras.Model:
        images = keras.Input((8, 8, 3))
        features = keras.layers.GlobalAveragePooling2D()(images)
        logits = keras.layers.Dense(CLASSES)(features)
        return keras.Model(images, {"features": features, "logits": logits})

    def none_are_to_be_seen():
        pytest.fail("images were asked for")
        yield

    peers = [plain(), plain()]
    found = soup.average_network(peers, none_are_to_be_seen())
    for own, *others in zip(*(n.get_weights() for n in (found, *peers)), strict=True):
        np.testing.assert_allclose(own, np.mean(others, axis=0), rtol=1e-6)
