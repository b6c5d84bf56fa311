"""Small networks and what the tests of networks ask of them."""

import functools
import random

import keras
import numpy as np

from tf_cutnmix import build_network

# A small member of each kind, and what divides the resolution at the end of each stage.
SCALES = {
    "resnet8": {"stem": 1, "stage1": 1, "stage2": 2, "stage3": 4},
    "resnet11_bottleneck": {"stem": 1, "stage1": 1, "stage2": 2, "stage3": 4},
    "wrn10_2": {"stem": 1, "stage1": 1, "stage2": 2, "stage3": 4},
    "vgg11": {"stage1": 2, "stage2": 4, "stage3": 8, "stage4": 16, "stage5": 32},
    "densenet_bc10_4": {"stem": 1, "stage1": 2, "stage2": 4, "stage3": 4},
    "mobilenet_v2_x0.1": {"stem": 1, "stage1": 1, "stage2": 2, "stage3": 4, "stage4": 8},
    "shufflenet_v2_x0.5": {"stem": 1, "stage1": 2, "stage2": 4, "stage3": 8},
}


def pixels(shape: tuple[int, ...] = (4, 8, 8, 3), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype("uint8")


@functools.cache
def small_network(name: str) -> keras.Model:
    random.seed(0)
    return build_network(name, (8, 8, 3), 10)


def assert_equal_outputs(found: keras.Model, expected: keras.Model) -> None:
    found, expected = found(pixels()), expected(pixels())
    assert set(found) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def between(network: keras.Model, start: str, end: str) -> keras.Model:
    return keras.Model(network.output[start], network.output[end])


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")
