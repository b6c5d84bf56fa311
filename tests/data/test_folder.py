"""Folders of pictures."""

import io
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from tests.data.pictures import noise, plain, values, write, write_class
from tf_cutnmix import data
from tf_cutnmix.data.folder import _each, picture
from tf_cutnmix.errors import InputError

TRAIN = [*range(4), *range(5, 9), *range(10, 14), *range(15, 19)]


@pytest.mark.parametrize(
    ("split", "expected"),
    [("train", TRAIN), ("test", [4, 9, 14, 19]), ("test+train", [4, 9, 14, 19, *TRAIN])],
)
def test_whole_splits_are_in_the_order_of_classes_and_names(split, expected, pets) -> None:
    images = data.load(str(pets), split)
    assert values(images) == expected
    assert images.labels.tolist() == [value // 10 for value in expected]


@pytest.mark.parametrize(
    "parts",
    [
        ("train[:5]", "train[5:]"),
        ("train[:2]", "train[2:4]", "train[4:-3]", "train[-3:]"),
        ("train[:25%]", "train[25%:80%]", "train[80%:]"),
        ("train[:-14]+test", "train[-14:]"),
        ("test[:1]+train[1:]", "train[:1]+test[1:]"),
    ],
)
def test_slices_are_disjoint_and_complete_and_each_has_its_share_of_each_class(parts, pets) -> None:
    slices = [data.load(str(pets), part) for part in parts]
    whole = data.load(str(pets), "train+test" if "test" in "".join(parts) else "train")
    together = [value for images in slices for value in values(images)]
    assert sorted(together) == sorted(values(whole))
    for images in slices:
        cats, dogs = images.counts
        assert abs(cats - dogs) <= 2
        assert values(images) == sorted(values(images))
        assert images.labels.tolist() == [value // 10 for value in values(images)]


def test_many_files_keep_their_order(tmp_path: pathlib.Path) -> None:
    for value in range(100):
        side = 2 if value % 7 else 300
        write(tmp_path / "ab"[value // 50] / f"{value:03}.png", plain(value, side, side))
    images = data.load(str(tmp_path), "train", image_size=2)
    assert values(images) == [value for value in range(100) if value % 5 != 4]
    assert images.labels.tolist() == [0] * 40 + [1] * 40


def test_as_many_files_are_read_at_once_as_tensorflow_has_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = 1 + (os.cpu_count() or 1)
    monkeypatch.setattr(tf.config.threading, "get_inter_op_parallelism_threads", lambda: count)
    together = threading.Barrier(count, timeout=30)
    paths = [pathlib.Path(str(number)) for number in range(1 + 2 * count)]
    made = _each(lambda path: path.name == "0" or together.wait() >= 0, paths)
    assert all(made)


def test_class_names_are_the_sorted_folders(pets: pathlib.Path) -> None:
    assert data.load(str(pets), "train").class_names == ("cat", "dog")


def test_train_and_test_folders_are_splits(tmp_path: pathlib.Path) -> None:
    for split, start in (("train", 0), ("test", 100), ("extra", 200)):
        write_class(tmp_path / split / "cat", range(start, start + 6))
        write_class(tmp_path / split / "dog", range(start + 6, start + 8))
    train, test = data.load(str(tmp_path), "train"), data.load(str(tmp_path), "test")
    assert values(train) == list(range(8))
    assert values(test) == list(range(100, 108))
    assert train.labels.tolist() == test.labels.tolist() == [0] * 6 + [1] * 2
    assert data.load(str(tmp_path), "extra[:4]").counts.tolist() == [3, 1]


def test_train_and_test_must_have_the_same_classes(tmp_path: pathlib.Path) -> None:
    for folder in ("train/cat", "train/dog", "test/cat", "test/fox"):
        write_class(tmp_path / folder, range(1))
    with pytest.raises(InputError, match=r"train and test differ .*'dog', 'fox'"):
        data.load(str(tmp_path), "train")


def test_an_empty_class_is_named(tmp_path: pathlib.Path) -> None:
    write_class(tmp_path / "cat", range(5))
    (tmp_path / "dog").mkdir()
    with pytest.raises(InputError, match="dog holds no images"):
        data.load(str(tmp_path), "train")


def test_one_class_is_too_few(tmp_path: pathlib.Path) -> None:
    write_class(tmp_path / "cat", range(5))
    with pytest.raises(InputError, match="'cat': 2 are needed"):
        data.load(str(tmp_path), "train")


def test_images_without_class_folders_are_an_input_error(tmp_path: pathlib.Path) -> None:
    write_class(tmp_path, range(5))
    with pytest.raises(InputError, match="holds no class sub-folders"):
        data.load(str(tmp_path), "train")


def test_hidden_folders_and_other_files_are_ignored(tmp_path: pathlib.Path) -> None:
    for folder in ("cat", "dog", ".thumbnails"):
        write_class(tmp_path / folder, range(2))
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "LICENSE").write_text("no folder")
    images = data.load(str(tmp_path), "train")
    assert images.class_names == ("cat", "dog")
    assert values(images) == [0, 1, 0, 1]


def test_hidden_files_are_ignored(tmp_path: pathlib.Path) -> None:
    for folder in ("cat", "dog"):
        write_class(tmp_path / folder, range(2))
    (tmp_path / "cat" / "._000.png").write_bytes(b"what macOS leaves beside a copied image")
    assert values(data.load(str(tmp_path), "train")) == [0, 1, 0, 1]


def test_endings_count_in_any_case(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "cat" / "0.PNG", plain(1))
    write(tmp_path / "dog" / "0.png", plain(2))
    assert values(data.load(str(tmp_path), "train")) == [1, 2]


def test_jpeg_grayscale_and_transparent_images_become_rgb(tmp_path: pathlib.Path) -> None:
    transparent = noise(4, 5, 4)
    jpeg = tf.io.encode_jpeg(noise(4, 5)).numpy()
    write(tmp_path / "a" / "grayscale.png", noise(4, 5, 1))
    (tmp_path / "a" / "photo.jpeg").write_bytes(jpeg)
    write(tmp_path / "b" / "transparent.png", transparent)
    images = data.load(str(tmp_path), "train")
    expected = [
        np.repeat(noise(4, 5, 1), 3, axis=-1),
        tf.io.decode_jpeg(jpeg).numpy(),
        transparent[..., :3],
    ]
    np.testing.assert_array_equal(images.pixels, expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_file_alone_is_read_as_in_a_data_set(kind: str) -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(noise(4, 5)).save(file, kind)
    pixels = picture(file.getvalue())
    np.testing.assert_array_equal(pixels, noise(4, 5))


@pytest.mark.parametrize("broken", ["cat/000.png", "dog/000.png", "dog/002.png"])
@pytest.mark.parametrize(
    "content",
    [
        b"a text file",
        b"",
        tf.io.encode_jpeg(noise(64, 64)).numpy()[:1500],
        tf.io.encode_png(noise(64, 64)).numpy()[:1500],
    ],
    ids=["text", "empty", "truncated JPEG", "truncated PNG"],
)
def test_a_broken_image_is_named(broken: str, content: bytes, tmp_path: pathlib.Path) -> None:
    write_class(tmp_path / "cat", range(3))
    write_class(tmp_path / "dog", range(3))
    (tmp_path / broken).write_bytes(content)
    with pytest.raises(InputError, match=f"{tmp_path / broken} cannot be "):
        data.load(str(tmp_path), "train", image_size=4)


def test_all_broken_images_are_named_at_once(tmp_path: pathlib.Path) -> None:
    write_class(tmp_path / "cat", range(12))
    write_class(tmp_path / "dog", range(12))
    # The fifth of a class is a test image.
    for name in ("cat/004.png", "dog/000.png", "dog/011.png"):
        (tmp_path / name).write_bytes(b"a text file")
    places = ", ".join(str(tmp_path / n) for n in ("dog/000.png", "dog/011.png", "cat/004.png"))
    words = f"3 pictures of {tmp_path} cannot be read: {places}: repair or remove them"
    with pytest.raises(InputError, match=f"^{re.escape(words)}$"):
        data.load(str(tmp_path), "train")


def test_a_link_to_nowhere_is_named(tmp_path: pathlib.Path) -> None:
    write_class(tmp_path / "cat", range(3))
    write_class(tmp_path / "dog", range(3))
    link = tmp_path / "dog" / "link.png"
    link.symlink_to(tmp_path / "gone.png")
    with pytest.raises(InputError, match=f"^{link} cannot be read: No such file or directory$"):
        data.load(str(tmp_path), "train")


def test_images_of_unlike_sizes_need_image_size(tmp_path: pathlib.Path) -> None:
    write_class(tmp_path / "cat", range(2))
    write(tmp_path / "dog" / "wide.png", noise(4, 9))
    with pytest.raises(InputError, match=r"wide.png has 9x4 pixels .* 5x4: pass --image_size"):
        data.load(str(tmp_path), "train")
    images = data.load(str(tmp_path), "train", image_size=7)
    assert images.pixels.shape == (3, 7, 7, 3)
    np.testing.assert_array_equal(images.pixels[2], data.resize(noise(4, 9), (7, 7)))


@pytest.mark.long
def test_a_file_that_never_answers_ends_no_later_than_is_asked(tmp_path: pathlib.Path) -> None:
    """As on a file system that is gone: a pipe into which nobody writes stands for it."""
    files = [tmp_path / str(number) for number in range(9)]
    for file in files[:-1]:
        file.touch()
    os.mkfifo(files[-1])
    code = """
import pathlib, sys
from tf_cutnmix import command
from tf_cutnmix.data import folder
from tf_cutnmix.predict import Settings
def main(settings):
    for _ in folder._each(pathlib.Path.read_bytes, list(map(pathlib.Path, settings.pictures))):
        print("read", flush=True)
sys.exit(command.run("x", "y", Settings, main))
"""
    command = [sys.executable, "-c", code, "--savedmodel=x", *map(str, files)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert [process.stdout.readline() for _ in files[:-1]] == ["read\n"] * 8
        process.terminate()
        try:
            assert process.wait(30) == 128 + signal.SIGTERM
        finally:
            process.kill()
