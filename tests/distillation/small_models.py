"""Small networks and distillers that the tests of training share."""

import random

import keras
import numpy as np

from tf_cutnmix import CropAndFlip, CutNMix, OnlineDistiller

CLASSES = 5
BATCH = 4


def small_network(width: int = 6, num_classes: int = CLASSES, dropout: float = 0.0) -> keras.Model:
    images = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 64, offset=-2)(images)
    x = keras.layers.Conv2D(width, 3, strides=2, use_bias=False)(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    x = keras.layers.ReLU()(x)
    features = keras.layers.GlobalAveragePooling2D()(x)
    hidden = keras.layers.Dropout(dropout)(features) if dropout else features
    logits = keras.layers.Dense(num_classes)(hidden)
    return keras.Model(images, {"features": features, "logits": logits})


def images_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3)).astype("uint8")


def labels_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + 100).integers(0, CLASSES, count)


def batch_of(seed: int) -> tuple[np.ndarray, np.ndarray]:
    return images_of(BATCH, seed).astype("float32"), labels_of(BATCH, seed)


def sgd(rate: float = 0.1) -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)


def small_distiller(dropout: float = 0.0, **settings) -> OnlineDistiller:
    """Two peers of unlike feature sizes, with the same weights every time.

    Unless a mixing is given, it is one for which XLA is not waited.
    """
    random.seed(0)
    peers = [small_network(6, dropout=dropout), small_network(9, dropout=dropout)]
    mixing = CutNMix(2, seed=0)
    mixing.supports_jit = False
    defaults = {"mixing": mixing, "momentum": 0.6, "weight_decay": 1e-3}
    return OnlineDistiller(peers, **{**defaults, **settings})


def compiled(model: OnlineDistiller, rate: float = 0.1, **how) -> OnlineDistiller:
    how = how or {"run_eagerly": True}
    model.compile(sgd(rate), **how)
    return model


def graph_of(model: OnlineDistiller) -> OnlineDistiller:
    return compiled(model, jit_compile=False)


def regularised() -> OnlineDistiller:
    """With every kind of randomness: crops, mixing and dropout."""
    return small_distiller(**compiled_views(), dropout=0.3)


def compiled_views() -> dict[str, keras.layers.Layer]:
    """Crops and a mixing that XLA compiles, as it does by default."""
    return {"augment": CropAndFlip(seed=0), "mixing": CutNMix(2, seed=0)}


def train(model: OnlineDistiller, steps: int, seed: int = 0) -> OnlineDistiller:
    for step in range(steps):
        model.train_on_batch(*batch_of(seed + step))
    return model


def state_of(model: OnlineDistiller) -> dict[str, np.ndarray]:
    """Every variable but the two that tell of a failure, the metrics and the mixing's count."""
    owners = {
        **model.networks,
        **{f"adapter{i}": adapter for i, adapter in enumerate(adapters_of(model))},
        "optimizer": model.optimizer,
    }
    state = {
        f"{owner} {i} {variable.path}": variable.numpy()
        for owner, holder in owners.items()
        for i, variable in enumerate(holder.variables)
    }
    return {**state, "step": model.step.numpy()}


def adapters_of(model: OnlineDistiller) -> list[keras.layers.Layer]:
    return [adapter for part in model.parts for adapter in part.adapters]


def values_of(model: OnlineDistiller) -> list[np.ndarray]:
    return list(state_of(model).values())


def assert_same_state(model: OnlineDistiller, before: dict[str, np.ndarray]) -> None:
    for (name, found), expected in zip(state_of(model).items(), before.values(), strict=True):
        np.testing.assert_array_equal(found, expected, err_msg=name)
