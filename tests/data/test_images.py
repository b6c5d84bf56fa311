"""Images in memory or on disk, held out, resized."""

import pathlib
import types

import numpy as np
import psutil
import pytest
import tensorflow as tf

from tests.data.pictures import noise, values
from tf_cutnmix import data
from tf_cutnmix.errors import InputError


def triangle_weights(before: int, after: int) -> np.ndarray:
    """The matrix of an anti-aliased linear resize along one axis."""
    scale = before / after
    centres = (np.arange(after)[:, None] + 0.5) * scale
    distances = np.abs(np.arange(before)[None] + 0.5 - centres) / max(scale, 1.0)
    weights = np.maximum(0.0, 1.0 - distances)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine seems to have next to no free memory."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(available=1000))


@pytest.mark.usefixtures("little_memory")
def test_images_beyond_half_the_memory_lie_on_disk(pets: pathlib.Path) -> None:
    images = data.load(str(pets), "train")
    assert isinstance(images.pixels, np.memmap)
    assert values(images) == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 15, 16, 17, 18]
    _, labels = zip(*data.ordered_batches(images, 5).as_numpy_iterator(), strict=True)
    assert np.concatenate(labels).tolist() == [0] * 8 + [1] * 8


def test_images_that_fit_lie_in_memory(pets: pathlib.Path) -> None:
    assert not isinstance(data.load(str(pets), "train").pixels, np.memmap)


@pytest.mark.usefixtures("little_memory")
def test_images_beyond_the_disk_are_an_input_error(
    pets: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "disk_usage", lambda _: types.SimpleNamespace(free=10))
    with pytest.raises(InputError, match="lower --image_size or select fewer images"):
        data.load(str(pets), "train")


def test_an_image_size_beyond_the_memory_is_an_input_error_before_any_image_is_read() -> None:
    with pytest.raises(InputError, match=r"--image_size=100000: one image takes 251.5 GiB"):
        data.load("./nothing", "train", image_size=100_000)


@pytest.mark.parametrize("size", [(3, 4), (8, 6), (13, 21), (1, 1)])
def test_resize_is_an_anti_aliased_linear_filter(size: tuple[int, int]) -> None:
    image = noise(8, 12)
    rows, columns = triangle_weights(8, size[0]), triangle_weights(12, size[1])
    expected = np.einsum("ih,jw,hwc->ijc", rows, columns, image.astype(np.float64))
    resized = data.resize(image, size).numpy()
    assert resized.dtype == np.uint8
    assert np.abs(resized - expected).max() < 0.501


def test_resize_to_the_same_size_changes_nothing() -> None:
    images = noise(8, 12)[None]
    np.testing.assert_array_equal(data.resize(images, (8, 12)), images)


@pytest.mark.parametrize("shape", [[None] * 4, [None, None, None, 3], [None, 8, 12, 3]])
def test_resize_in_a_graph_for_any_size_resizes_only_images_of_another(shape: list) -> None:
    resize = tf.function(
        lambda images: data.resize(images, (8, 12)),
        input_signature=[tf.TensorSpec(shape, tf.uint8)],
    )
    concrete = resize.get_concrete_function()
    assert concrete.output_shapes.as_list() == [None, 8, 12, shape[-1]]
    always = {operation.type for operation in concrete.graph.get_operations()}
    assert "ScaleAndTranslate" not in always
    images = noise(8, 12)[None]
    np.testing.assert_array_equal(resize(images), images)
    if shape[1] is None:
        other = noise(12, 8)[None]
        np.testing.assert_array_equal(resize(other), data.resize(other, (8, 12)))
