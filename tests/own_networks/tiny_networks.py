"""A network of two stages, for tests of what trains several: as fast to trace as one can be.

Commands know it as `--arch=tiny_networks:tiny`.
"""

import keras


def tiny(
    input_shape: tuple[int, int, int] = (8, 8, 3),
    num_classes: int = 10,
    *,
    size: int = 6,
    stem: int = 4,
    activation: str = "relu",
) -> keras.Model:
    """A whole peer whose last map has `size` channels."""
    images = keras.Input(input_shape)
    x = keras.layers.Rescaling(1 / 64, offset=-2)(images)
    ends = {"stem": keras.layers.Conv2D(stem, 3, strides=2, padding="same")(x)}
    x = keras.layers.BatchNormalization()(ends["stem"])
    x = keras.layers.Activation(activation)(x)
    ends["stage1"] = keras.layers.Conv2D(5, 3, padding="same", activation="tanh")(x)
    x = keras.layers.Conv2D(size, 3, strides=2, padding="same", use_bias=False)(ends["stage1"])
    x = keras.layers.BatchNormalization()(x)
    ends["stage2"] = keras.layers.Activation(activation)(x)
    ends["features"] = keras.layers.GlobalAveragePooling2D()(ends["stage2"])
    ends["logits"] = keras.layers.Dense(num_classes)(ends["features"])
    return keras.Model(images, ends)


def smooth(input_shape: tuple[int, int, int] = (8, 8, 3), num_classes: int = 10) -> keras.Model:
    """One without kinks, where what a rounding moves a little moves all else a little."""
    return tiny(input_shape, num_classes, activation="gelu")


def without_stages(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """A peer that names no stage."""
    images = keras.Input(input_shape)
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(images))
    logits = keras.layers.Dense(num_classes)(features)
    return keras.Model(images, {"features": features, "logits": logits}, name="flat")
