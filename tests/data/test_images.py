"""Images in memory or on disk, held out, resized."""

import pathlib
import tracemalloc
import types

import hypothesis
import hypothesis.strategies as st
import numpy as np
import psutil
import pytest
import tensorflow as tf

from tests.data.pictures import noise, numbered, values
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
def test_holding_out_does_not_fetch_the_images_into_memory() -> None:
    images = data.load("digits", "train", image_size=16)
    tracemalloc.start()
    train, validation = data.hold_out(images, 0.5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(train.pixels) + len(validation.pixels) == 1437
    assert peak < images.pixels.nbytes / 4


@pytest.mark.usefixtures("little_memory")
def test_images_beyond_the_disk_are_an_input_error(
    pets: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "disk_usage", lambda _: types.SimpleNamespace(free=10))
    with pytest.raises(InputError, match="lower --image_size or select fewer images"):
        data.load(str(pets), "train")


@hypothesis.given(count=st.integers(2, 200), fraction=st.floats(0, 0.99))
def test_held_out_images_and_the_rest_are_all_images(count: int, fraction: float) -> None:
    train, validation = data.hold_out(numbered(count), fraction)
    assert len(validation.labels) == round(fraction * count)
    assert sorted([*train.labels, *validation.labels]) == list(range(count))
    for part in (train, validation):
        np.testing.assert_array_equal(part.pixels[:, 0, 0, 0], part.labels)


def test_held_out_images_are_the_same_in_every_run() -> None:
    first = data.hold_out(numbered(50), 0.2)[1].labels
    np.random.seed(123)
    data.hold_out(numbered(9), 0.5)
    np.testing.assert_array_equal(data.hold_out(numbered(50), 0.2)[1].labels, first)


def test_held_out_images_come_from_everywhere() -> None:
    held_out = data.hold_out(numbered(200), 0.5)[1].labels
    assert 30 < np.sum(held_out < 100) < 70


def test_nothing_is_held_out_of_fraction_0() -> None:
    train, validation = data.hold_out(numbered(10), 0.0)
    assert train.labels.tolist() == list(range(10))
    assert validation.pixels.shape == (0, 2, 3, 3)


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
