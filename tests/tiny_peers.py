"""Networks of two stages for tests of what trains several networks together."""

import keras

CLASSES = 10


def tiny_peer(size: int = 6, stem: int = 4) -> keras.Model:
    """A peer for images of 8x8 pixels whose last map has `size` channels."""
    images = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 64, offset=-2)(images)
    ends = {"stem": keras.layers.Conv2D(stem, 3, strides=2, padding="same")(x)}
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(ends["stem"]))
    ends["stage1"] = keras.layers.Conv2D(5, 3, padding="same", activation="tanh")(x)
    x = keras.layers.Conv2D(size, 3, strides=2, padding="same", use_bias=False)(ends["stage1"])
    ends["stage2"] = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    ends["features"] = keras.layers.GlobalAveragePooling2D()(ends["stage2"])
    ends["logits"] = keras.layers.Dense(CLASSES)(ends["features"])
    return keras.Model(images, ends)
