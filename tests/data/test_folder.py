"""Folders of pictures: which files belong to which split and class, and what is made of them."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.data.pictures import noise, plain, values, write, write_class
from tests.data.test_decode import CANON, DNG, EXACT, RGB, THUMBNAIL, encoded
from tf_cutnmix import data
from tf_cutnmix.data.folder import has_validation, layout, pictures_below
from tf_cutnmix.errors import InputError

TRAIN = [*range(4), *range(5, 9), *range(10, 14), *range(15, 19)]
COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"
ONE_LINE = "a class needs a name of one line"


def put(folder: pathlib.Path, *files: str, content: bytes = EXACT["PNG"]) -> pathlib.Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    return folder


def both(*splits: str) -> list[str]:
    return [f"{split}/{name}/1.png" for split in splits for name in ("cat", "dog")]


@pytest.mark.parametrize(
    ("split", "expected"),
    [("train", TRAIN), ("test", [4, 9, 14, 19]), ("test+train", [4, 9, 14, 19, *TRAIN])],
)
def test_whole_splits_are_in_the_order_of_classes_and_names(split, expected, pets) -> None:
    images = data.load(str(pets), split)
    assert values(images) == expected
    assert images.labels.tolist() == [value // 10 for value in expected]
    assert images.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    "parts",
    [
        ("train[:2]", "train[2:4]", "train[4:-3]", "train[-3:]"),
        ("train[:25%]", "train[25%:80%]", "train[80%:]"),
        ("train[:-14]+test", "train[-14:]"),
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


@pytest.mark.parametrize(
    ("folders", "train", "validation", "test"),
    [
        (("Train", "Test"), "Train", None, "Test"),
        (("training", "testing"), "training", None, "testing"),
        (("train", "val"), "train", None, "val"),
        (("TRAIN", "valid", "test"), "TRAIN", "valid", "test"),
        (("train", "Validation", "test", DECOMPOSED), "train", "Validation", "test"),
        (("train",), "train", None, None),
    ],
)
def test_splits_are_known_by_their_usual_names(folders, train, validation, test, tmp_path) -> None:
    put(tmp_path, *both(*folders))
    assert has_validation(tmp_path) == (validation is not None)
    found = layout(tmp_path)
    for name, folder in {"train": train, "validation": validation, "test": test}.items():
        assert (name in found.splits) == (folder is not None)
        if folder:
            expected = [(tmp_path / folder / c / "1.png", k) for k, c in enumerate(("cat", "dog"))]
            assert found.splits[name] == found.splits[folder] == expected
    assert {COMPOSED if name == DECOMPOSED else name for name in folders} <= set(found.splits)
    count, *more = found.notes
    assert count == f"{tmp_path}: {2 * len(folders)} pictures of 2 classes"
    told = [f"{tmp_path} holds no test folder: val is the test split"]
    assert more == (told if folders == ("train", "val") else [])


def test_a_class_may_be_called_as_a_split_is(tmp_path) -> None:
    put(tmp_path, "bus/1.png", "car/old/1.png", "train/steam/1.png", "train/2.png")
    assert layout(tmp_path).class_names == ("bus", "car", "train")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (both("test", "val"), "holds test, val and no train folder: rename the one with the"),
        (both("Test", "trian"), "holds Test, trian and no train folder"),
        (both("train", "Training", "test"), "holds Training and train, which both mean train"),
        (both("train", COMPOSED, DECOMPOSED), f"which both mean {COMPOSED}: keep one"),
        (["train/1.png", "test/1.png"], "if it is a class itself, call it otherwise than a split"),
        (["train/cat/1.png", "train/dog/1.png", "test/cat/1.png"], r"train and test .* \['dog'\]"),
        (["1.png"], "holds no class sub-folders"),
        (["cat/1.png", "dog/.a.png"], r"dog holds no images \(\.png"),
        (["cat/1.png"], "'cat': 2 are needed"),
        (["cat/1.png", "do\ng/1.png"], r"do\\ng'?: " + ONE_LINE),
        (["cat/1.png", "do\x85g/1.png"], ONE_LINE),
        (["cat/1.png", os.fsdecode(b"d\xe4n") + "/1.png"], ONE_LINE),
    ],
)
def test_what_cannot_be_told_apart_is_refused_by_name(files, words, tmp_path) -> None:
    with pytest.raises(InputError, match=words) as caught:
        data.load(str(put(tmp_path, *files)), "train")
    assert len(str(caught.value).splitlines()) == 1


def test_pictures_lie_anywhere_below_their_class_under_any_ending(tmp_path) -> None:
    pictures = ("0.JFIF", "a/1.webp", "a/b/2.TIFF", "c/3.png", "d.photo", "e")
    put(tmp_path, *(f"cat/{name}" for name in pictures), "dog/0.png", "dog/2.NEF")
    hidden = ("cat/.0.png", "cat/.a/1.png", ".git/0.png", "__MACOSX/cat/0.png")
    put(tmp_path, *hidden)
    put(tmp_path, "cat/notes.txt", "cat/a/NOTES.TXT", "dog/live.heic", "dog/c", content=b"no")
    # As TIFF files do, raw ones of cameras begin; under the names of those they are none.
    put(tmp_path, "cat/1.CR2", "dog/1.nef", "dog/2.dng", content=encoded(RGB, "TIFF"))
    found = layout(tmp_path)
    cats = [file for file, label in found.splits["train"] if label == 0]
    names = [str(file.relative_to(tmp_path / "cat")) for file in cats]
    assert names == [name for i, name in enumerate(pictures) if i % 5 != 4]
    (note,) = found.notes
    assert note.startswith(f"{tmp_path}: 8 pictures of 2 classes; skipped 2 .txt, ")
    skipped = {"2 .txt", "1 .cr2", "1 without an ending", "1 .nef", "1 .dng", "1 .heic"}
    assert set(note.partition("skipped ")[2].split(", ")) == skipped


def test_a_raw_file_that_is_called_a_picture_is_refused_by_name(tmp_path) -> None:
    put(tmp_path, "cat/0.png", "dog/0.png")
    for content in (THUMBNAIL, DNG, CANON):
        put(tmp_path, "dog/1.tif", content=content)
        words = "dog/1.tif cannot be read: it is a camera's raw file: turn it into JPEG"
        with pytest.raises(InputError, match=words):
            data.load(str(tmp_path), "train")


@pytest.mark.parametrize(
    "folders",
    [("train/{c}", "test/{d}", "train/dog", "test/dog"), ("{c}", "{d}", "dog")],
)
def test_names_that_differ_in_their_code_points_alone_are_one_class(folders, tmp_path) -> None:
    put(tmp_path, *(f"{f.format(c=COMPOSED, d=DECOMPOSED)}/{i}.png" for i, f in enumerate(folders)))
    found = layout(tmp_path)
    assert found.class_names == (COMPOSED, "dog")
    assert found.notes[-1] == (
        f"{tmp_path}: one class each, although Unicode writes them twice: {COMPOSED!r}"
    )
    cups = {file.parent.name for part in found.splits.values() for file, k in part if k == 0}
    assert cups == {COMPOSED, DECOMPOSED}


def test_what_is_no_regular_file_is_skipped_unopened(tmp_path, monkeypatch) -> None:
    put(tmp_path, "cat/0.png", "dog/0.png")
    for name in ("1.png", "1.fifo"):
        os.mkfifo(tmp_path / "cat" / name)
        (tmp_path / "dog" / name).symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path / "dog")  # a socket's name is short
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("2.png")
        found = layout(tmp_path)
    assert found.notes == (f"{tmp_path}: 2 pictures of 2 classes; skipped 5 no regular file",)


def test_linked_folders_are_followed_but_in_no_circle(tmp_path) -> None:
    put(
        tmp_path, "data/cat/0.png", "data/cat/b/1.png", "data/dog/0.png", "more/3.png", "more/4.png"
    )
    cats = tmp_path / "data" / "cat"
    (cats / "more").symlink_to(tmp_path / "more")
    (tmp_path / "more" / "back").symlink_to(cats)
    for name, place in (("a", "b"), ("here", "."), ("all", "..")):
        (cats / name).symlink_to(place)
    pictures, others = pictures_below(cats)
    names = [str(file.relative_to(cats)) for file in pictures]
    assert names == ["0.png", "b/1.png", "more/3.png", "more/4.png"]
    assert others == []
    (tmp_path / "linked").symlink_to(cats)
    assert len(pictures_below(tmp_path / "linked")[0]) == 4


def test_a_folder_that_cannot_be_read_is_named(tmp_path) -> None:
    put(tmp_path, "cat/a/1.png", "cat/0.png")
    (tmp_path / "cat" / "a").chmod(0)
    if os.access(tmp_path / "cat" / "a", os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(InputError, match="cat/a cannot be read: Permission denied"):
        pictures_below(tmp_path)


@pytest.mark.parametrize(
    ("where", "splits"), [(".", ()), (".", ("train", "test")), ("train", ("train",))]
)
def test_pictures_beside_the_folders_of_classes_are_told(where, splits, tmp_path) -> None:
    put(tmp_path, *(both(*splits) if splits else ["cat/1.png", "dog/1.png"]))
    put(tmp_path, *(f"{where}/{i}.jpg" for i in range(15)), f"{where}/.0.png")
    put(tmp_path, f"{where}/notes.txt", content=b"no")
    told = f"{tmp_path / where}: left out 15 pictures that lie in no class's folder"
    assert told in layout(tmp_path).notes


def test_many_files_keep_their_order(tmp_path: pathlib.Path) -> None:
    for value in range(60):
        side = 2 if value % 7 else 200
        write(tmp_path / "ab"[value // 30] / f"{value:03}.png", plain(value, side, side))
    images = data.load(str(tmp_path), "train", image_size=2)
    assert values(images) == [value for value in range(60) if value % 5 != 4]


@pytest.mark.parametrize(
    "content",
    [
        b"a text file",
        b"",
        tf.io.encode_jpeg(noise(64, 64)).numpy()[:1500],
        tf.io.encode_png(noise(64, 64)).numpy()[:1500],
        None,
    ],
    ids=["text", "empty", "truncated JPEG", "truncated PNG", "a link to nowhere"],
)
def test_broken_images_are_named_alone_and_all_at_once(content, tmp_path: pathlib.Path) -> None:
    write_class(tmp_path / "cat", range(12))
    write_class(tmp_path / "dog", range(12))
    reason = "it is no whole image, repair or remove it" if content is not None else "No such file"

    def break_(name: str) -> None:
        (tmp_path / name).unlink()
        if content is None:
            (tmp_path / name).symlink_to(tmp_path / "gone.png")
        else:
            (tmp_path / name).write_bytes(content)

    break_("dog/011.png")
    with pytest.raises(InputError, match=f"^{tmp_path}/dog/011.png cannot be read: {reason}"):
        data.load(str(tmp_path), "train", image_size=4)
    # The fifth of a class is a test image.
    break_("cat/004.png")
    break_("dog/000.png")
    places = ", ".join(str(tmp_path / n) for n in ("dog/000.png", "dog/011.png", "cat/004.png"))
    words = f"3 pictures of {tmp_path} cannot be read: {places}: repair or remove them"
    with pytest.raises(InputError, match=f"^{re.escape(words)}$"):
        data.load(str(tmp_path), "train", image_size=4)


def test_images_of_unlike_sizes_need_image_size(tmp_path: pathlib.Path) -> None:
    write_class(tmp_path / "cat", range(2))
    write(tmp_path / "dog" / "wide.png", noise(4, 9))
    with pytest.raises(InputError, match=r"wide.png has 9x4 pixels .* 5x4: pass --image_size"):
        data.load(str(tmp_path), "train")
    images = data.load(str(tmp_path), "train", image_size=7)
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
