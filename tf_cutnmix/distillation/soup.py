"""The soup: one network of the peers' mean weights.

Peers that are drawn to their mean (`peers.pull`) stay near each other, so that

    w = 1/n sum_k w_k

is a network that answers as they do, at the price of one of them (the average soup of PAPA,
Jolicoeur-Martineau et al. 2023, and of Wortsman et al. 2022). What its layers see is not what the
peers' layers saw, so the statistics of BatchNormalization are computed anew (as Izmailov et al.
2018, SWA, do), over batches b of N_b images with mean m_b and biased variance v_b in each channel:

    mean     = sum_b N_b m_b / sum_b N_b
    variance = sum_b N_b (v_b + m_b^2) / sum_b N_b - mean^2

These are exactly the mean and the variance of all batches together, whatever their order (Wu and
Johnson 2021, "precise" statistics), where a moving average forgets the first ones. What comes
before a layer is normalised by the batch meanwhile, as it was in training.
"""

from collections.abc import Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf

from tf_cutnmix.distillation import teacher
from tf_cutnmix.networks.sharing import Together


def average_network(peers: Sequence[keras.Model], batches: Iterable[tf.Tensor]) -> keras.Model:
    """A network of the peers' architecture and their mean weights, which nothing trains.

    Layers that are frozen in the peers, and those that are no BatchNormalization, keep the mean of
    the peers' statistics. Whole numbers are those of the first peer.

    Args:
      peers: of `same_shapes`; they stay as they are.
      batches: images `[B, H, W, C]` as they come at test, pixels of 0 to 255.
    """
    (network,) = teacher.averaged_copies(peers[:1])
    weights = zip(*(peer.get_weights() for peer in peers), strict=True)
    means = [_mean(values) for values in weights]
    network.set_weights(means)
    normalising = teacher.Normalising([network], peers[:1])
    kind = keras.layers.BatchNormalization
    layers = [layer for layer in normalising.layers if isinstance(layer, kind)]
    if layers:
        statistics = _pooled(network, normalising, layers, batches)
        network.set_weights(means)
        for layer, (mean, variance) in zip(layers, statistics, strict=True):
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)
    return network


def _mean(values: Sequence[np.ndarray]) -> np.ndarray:
    if not keras.backend.is_float_dtype(values[0].dtype.name):
        return values[0]
    return np.mean(values, axis=0, dtype=np.float64).astype(values[0].dtype)


def _pooled(
    network: keras.Model,
    normalising: teacher.Normalising,
    layers: Sequence[keras.layers.BatchNormalization],
    batches: Iterable[tf.Tensor],
) -> list[np.ndarray]:
    """Mean and variance, `[2, C]` float64, of what each layer normalises, over all batches."""
    run = Together([network])

    @tf.function(autograph=False)
    def see(images: tf.Tensor) -> list[tf.Tensor]:
        with normalising.told_to_train():
            normalising.teach(run, [images])
        return [
            tf.stack([layer.moving_mean.value, layer.moving_variance.value]) for layer in layers
        ]

    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0  # what it holds after a batch is of this batch alone
    found = [(len(images), see(images)) for images in batches]
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    counts = [count for count, _ in found]
    of_layers = zip(*(statistics for _, statistics in found), strict=True)
    return [_together(counts, np.array(own, np.float64)) for own in of_layers]


def _together(counts: Sequence[int], statistics: np.ndarray) -> np.ndarray:
    """Mean and variance, `[2, C]`, of batches of so many images, of their own `[batches, 2, C]`."""
    means, variances = statistics[:, 0], statistics[:, 1]
    mean = np.average(means, axis=0, weights=counts)
    squares = np.average(variances + np.square(means), axis=0, weights=counts)
    return np.stack([mean, np.maximum(squares - np.square(mean), 0.0)])
