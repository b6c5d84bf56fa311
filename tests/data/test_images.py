"""Images that are resized, and those that the memory does not take."""

import math
import pathlib
import types

import numpy as np
import psutil
import pytest
import tensorflow as tf

from tests.data.pictures import noise
from tf_cutnmix import data
from tf_cutnmix.data.images import Images, Source, collect
from tf_cutnmix.errors import InputError


def triangle_weights(before: int, after: int) -> np.ndarray:
    """The matrix of an anti-aliased linear resize along one axis."""
    scale = before / after
    centres = (np.arange(after)[:, None] + 0.5) * scale
    distances = np.abs(np.arange(before)[None] + 0.5 - centres) / max(scale, 1.0)
    weights = np.maximum(0.0, 1.0 - distances)
    return weights / weights.sum(axis=1, keepdims=True)


def filtered(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Images `[N, H, W, C]` by an anti-aliased linear filter, in float64, before rounding."""
    rows, columns = map(triangle_weights, images.shape[1:3], size)
    return np.einsum("ih,jw,nhwc->nijc", rows, columns, images.astype(np.float64))


def test_images_beyond_half_the_memory_are_an_input_error(
    pets: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = types.SimpleNamespace(available=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    with pytest.raises(InputError, match="have them on disk with --cache_dir, lower --image_size"):
        data.load(str(pets), "train")
    memory.available = 4000
    assert len(data.load(str(pets), "train").labels) == 16


def test_an_image_size_beyond_the_memory_is_an_input_error_before_any_image_is_read() -> None:
    with pytest.raises(InputError, match=r"--image_size=100000: one image takes 251.5 GiB"):
        data.load("./nothing", "train", image_size=100_000)


@pytest.mark.parametrize("size", [(3, 4), (8, 6), (13, 21), (1, 1)])
def test_resize_is_an_anti_aliased_linear_filter(size: tuple[int, int]) -> None:
    images = noise(8, 12)[np.newaxis]
    resized = data.resize(images, size).numpy()
    assert resized.dtype == np.uint8
    assert np.abs(resized - filtered(images, size)).max() < 0.501


def cut_or_padded(images: np.ndarray, size: tuple[int, int], how: str) -> np.ndarray:
    """`filtered` in the right proportions, and then the middle of it, or zeros around it."""
    scale = {"crop": max, "pad": min}[how](
        a / b for a, b in zip(size, images.shape[1:3], strict=True)
    )
    inside = [max(1, math.floor(scale * side + 0.5)) for side in images.shape[1:3]]
    whole = filtered(images, tuple(inside))
    for axis, (wanted, has) in enumerate(zip(size, inside, strict=True), start=1):
        beyond = abs(has - wanted) // 2
        if has > wanted:
            whole = np.take(whole, range(beyond, beyond + wanted), axis=axis)
        else:
            around = [(0, 0)] * 4
            around[axis] = (beyond, wanted - has - beyond)
            whole = np.pad(whole, around)
    return whole


@pytest.mark.parametrize("how", ["crop", "pad"])
@pytest.mark.parametrize("size", [(3, 4), (8, 8), (13, 21), (20, 6), (1, 9)])
@pytest.mark.parametrize("before", [(8, 12), (15, 4), (9, 9)])
def test_proportions_are_kept_by_cutting_off_and_by_black_bars(before, size, how) -> None:
    images = noise(*before)[np.newaxis] | 1  # no pixel is black
    resized = data.resize(images, size, how).numpy()
    expected = cut_or_padded(images, size, how)
    assert np.abs(resized - expected).max() < 0.501
    np.testing.assert_array_equal(resized == 0, expected == 0)
    np.testing.assert_array_equal(data.resize(images[0], size, how), resized[0])


def test_a_picture_of_the_right_proportions_is_resized_alike_however() -> None:
    images = noise(8, 12)[np.newaxis]
    for size in ((4, 6), (20, 30)):
        squashed = data.resize(images, size)
        for how in ("crop", "pad"):
            np.testing.assert_array_equal(data.resize(images, size, how), squashed)


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


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            tf.errors.NotFoundError(None, None, "x.tfrecord; No such file or directory"),
            "x.tfrecord",
        ),
        (tf.errors.DataLossError(None, None, "corrupted record"), "it is no whole image"),
        (tf.errors.ResourceExhaustedError(None, None, "OOM"), "lower --image_size"),
    ],
)
def test_what_cannot_be_read_says_why(error, reason) -> None:
    def examples():
        raise error
        yield

    source = Source("x", examples, 1, ("a", "b"), lambda i: f"test[{i}]", list)
    with pytest.raises(InputError, match=rf"^x: test\[0\] cannot be read: .*{reason}"):
        collect(source, lambda shape: np.empty(shape, np.uint8))


def test_selected_images_keep_their_names() -> None:
    pixels, labels = np.zeros((5, 8, 8, 3), np.uint8), np.zeros(5, np.int32)
    images = Images(pixels, labels, ("a", "b"), name="vwxyz".__getitem__)
    some = images.select(np.array([4, 0, 3])).select(np.array([2, 0]))
    assert [some.name(i) for i in range(2)] == ["y", "z"]
    assert Images(pixels, labels, ("a", "b")).select(np.array([3])).name(0) == "3"
