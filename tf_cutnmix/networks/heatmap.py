"""Where networks look: a heat map over an image for the class that they predict, by Grad-CAM."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from tf_cutnmix.networks.sharing import stages

# Pixels a side of a map below which it tells hardly any places apart.
_COARSEST = 4


def looked_at(network: keras.Model) -> str | None:
    """The last stage whose map has 4 pixels a side or more; the first one of small images.

    None for a network that names no stages.
    """
    known = stages(network)
    fine = [name for name in known if min(network.output[name].shape[1:3]) >= _COARSEST]
    return next(iter([*fine[-1:], *known[:1]]), None)


def heatmaps(networks: Sequence[keras.Model], images: tf.Tensor) -> tf.Tensor:
    """Which places of images `[B, H, W, C]` speak for the class that the networks predict.

    Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2: `relu(sum_c a_c A_c)` of the maps `A` of
    a stage, `a_c` the mean over its pixels of the class's logit differentiated by `A_c`. Where
    the mean of these maps goes into a linear classifier, `a_c` is the classifier's weight over the
    number of pixels, and this is Zhou et al. 2016's class activation map.

    Args:
      networks: as of `build_network`, with a stage to look at.
      images: float32 of the networks' size, pixels of 0 to 255.

    Returns:
      `[B, H, W]` float32: each network's at the size of its input, scaled to a maximum of 1, their
      mean scaled so again. 0 everywhere where no place speaks for the class.
    """
    outputs = [network(images, training=False) for network in networks]
    sure = [tf.nn.softmax(tf.cast(output["logits"], tf.float32)) for output in outputs]
    classes = tf.argmax(tf.add_n(sure), axis=-1)
    each = []
    for network, output in zip(networks, outputs, strict=True):
        stage = looked_at(network)
        maps, rest = output[stage], keras.Model(network.output[stage], network.output["logits"])
        with tf.GradientTape() as tape:
            tape.watch(maps)
            score = tf.gather(rest(maps, training=False), classes, batch_dims=1)
        slopes = tf.reduce_mean(tape.gradient(score, maps), axis=[1, 2], keepdims=True)
        heat = tf.nn.relu(tf.reduce_sum(tf.cast(slopes * maps, tf.float32), -1, keepdims=True))
        each.append(_scaled(tf.image.resize(heat, tf.shape(images)[1:3])))
    return _scaled(tf.add_n(each))[..., 0]


def _scaled(heat: tf.Tensor) -> tf.Tensor:
    """Maps `[B, H, W, 1]` with a maximum of 1, or zeros."""
    return tf.math.divide_no_nan(heat, tf.reduce_max(heat, axis=[1, 2, 3], keepdims=True))
