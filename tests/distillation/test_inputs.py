"""What is wrong with images and labels is told once, in one line."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.distillation.small_models import CLASSES, batch_of, small_distiller, small_network
from tf_cutnmix import OnlineDistiller, build_network
from tf_cutnmix.distillation.inputs import _expects_pixels

IMAGES, LABELS = batch_of(0)
CALLS = {
    "fit": lambda model, x, y: model.fit(x, y, batch_size=2, verbose=0),
    "fit, data set": lambda model, x, y: model.fit(
        tf.data.Dataset.from_tensor_slices((x, y)).batch(2), verbose=0
    ),
    "evaluate": lambda model, x, y: model.evaluate(x, y, batch_size=2, verbose=0),
    "predict": lambda model, x, y: model.predict(x, batch_size=2, verbose=0),
    "train_on_batch": lambda model, x, y: model.train_on_batch(x, y),
    "test_on_batch": lambda model, x, y: model.test_on_batch(x, y),
}


def made(**how: object) -> OnlineDistiller:
    model = small_distiller(mixing=None, method="independent")
    model.compile(keras.optimizers.SGD(0.01), **how)
    return model


def warned(call: str, model: OnlineDistiller, images: np.ndarray) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        CALLS[call](model, images, LABELS)
    return [str(one.message) for one in caught if "255" in str(one.message)]


@pytest.mark.parametrize("call", CALLS)
def test_pixels_of_0_to_1_are_told_once(call) -> None:
    model = made(run_eagerly="batch" in call)
    assert warned(call, model, IMAGES) == []
    (line,) = warned(call, model, IMAGES / 255)
    assert "expect pixels of 0 to 255: multiply the images by 255" in line
    assert warned(call, model, IMAGES / 255) == []


def test_a_compiled_step_tells_too() -> None:
    model = made(jit_compile=True)
    assert len(warned("fit", model, IMAGES / 127.5 - 1)) == 1


@pytest.mark.parametrize(
    "images",
    [
        np.zeros_like(IMAGES),
        np.minimum(IMAGES, 1),
        np.minimum(IMAGES, 1).astype(np.uint8),
        np.minimum(IMAGES, 2) / 1.5,
        np.concatenate([IMAGES[:2], IMAGES[2:] / 255]),
    ],
    ids=["black", "dark", "dark uint8", "dark, resized", "later ones"],
)
def test_dark_pictures_raise_no_alarm(images) -> None:
    assert warned("predict", made(run_eagerly=True), images) == []


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (small_network(), True),
        (build_network("resnet8", (8, 8, 3), 10), True),
        (build_network("resnet8", (8, 8, 3), 10, mean=0.47, deviation=0.25), False),
        (keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()]), False),
    ],
)
def test_a_network_says_by_its_layers_what_pixels_it_expects(network, expected) -> None:
    assert _expects_pixels(network) == expected


@pytest.mark.parametrize(
    ("call", "label", "eager"),
    [
        *[("fit", CLASSES, False), ("fit, data set", -1, False), ("evaluate", 2.5, False)],
        *[("test_on_batch", CLASSES, False), ("train_on_batch", 3e9, True), ("fit", -0.5, True)],
        *[("evaluate", np.uint64(2**63 + 3), True), ("test_on_batch", CLASSES, True)],
    ],
)
def test_a_label_that_is_none_is_one_line(call, label, eager) -> None:
    labels = LABELS.astype(type(label))
    labels[-1] = label
    words = r"labels must be whole numbers from 0 to num_classes - 1 = 4\. Received: "
    with pytest.raises(ValueError, match=f"^{words}{label}") as caught:
        CALLS[call](made(run_eagerly=eager), IMAGES, labels)
    assert len(str(caught.value).splitlines()) == 1
