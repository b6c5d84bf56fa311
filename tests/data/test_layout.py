"""Which files of a folder belong to which split and class."""

import os
import pathlib
import socket

import pytest

from tests.data.test_decode import EXACT, RGB, encoded, tiff
from tf_cutnmix import data
from tf_cutnmix.data import layout
from tf_cutnmix.errors import InputError

PNG = EXACT["PNG"]


def put(folder: pathlib.Path, *files: str, content: bytes = PNG) -> pathlib.Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    return folder


def found(folder: pathlib.Path, split: str) -> list[str]:
    """The pictures of a split as `folder/class/name`, each with its label before it."""
    files = layout.read(folder).splits[split]
    return [f"{label} {file.relative_to(folder)}" for file, label in files]


def both(*splits: str) -> list[str]:
    return [f"{split}/{name}/1.png" for split in splits for name in ("cat", "dog")]


@pytest.mark.parametrize(
    ("folders", "train", "validation", "test"),
    [
        (("Train", "Test"), "Train", None, "Test"),
        (("training", "testing"), "training", None, "testing"),
        (("train", "val"), "train", None, "val"),
        (("TRAIN", "valid", "test"), "TRAIN", "valid", "test"),
        (("train", "Validation", "test", "extra"), "train", "Validation", "test"),
        (("train",), "train", None, None),
    ],
)
def test_splits_are_known_by_their_usual_names(folders, train, validation, test, tmp_path) -> None:
    put(tmp_path, *both(*folders))
    assert layout.has_validation(tmp_path) == (validation is not None)
    splits = layout.read(tmp_path).splits
    wanted = {"train": train, "validation": validation, "test": test}
    for name, folder in wanted.items():
        assert (name in splits) == (folder is not None)
        if folder:
            expected = [f"0 {folder}/cat/1.png", f"1 {folder}/dog/1.png"]
            assert found(tmp_path, name) == found(tmp_path, folder) == expected
    assert set(folders) <= set(splits)


def test_a_validation_folder_alone_is_the_test_split_and_that_is_told(tmp_path) -> None:
    notes = layout.read(put(tmp_path, *both("train", "val"))).notes
    assert notes == (
        f"{tmp_path}: 4 pictures of 2 classes",
        f"{tmp_path} holds no test folder: val is the test split",
    )


def test_a_class_may_be_called_as_a_split_is(tmp_path) -> None:
    put(tmp_path, "bus/1.png", "car/old/1.png", "train/steam/1.png", "train/2.png")
    assert layout.read(tmp_path).class_names == ("bus", "car", "train")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (both("test", "val"), "holds test, val and no train folder: rename the one with the"),
        (both("Test", "trian"), "holds Test, trian and no train folder"),
        (both("train", "Training", "test"), "holds Training and train, which both mean train"),
        (["train/1.png", "test/1.png"], "train holds no class sub-folders: .* test, train are"),
        (["train/cat/1.png", "train/dog/1.png", "test/cat/1.png"], r"train and test .* \['dog'\]"),
        ([*both("train", "test"), "extra/cat/1.png"], r"train and extra .* \['dog'\]"),
        (["1.png"], "holds no class sub-folders"),
        (["cat/1.png", "dog/.a.png"], r"dog holds no images \(\.png"),
        (both("train", "caf\u00e9", "cafe\u0301"), "which both mean caf\u00e9: keep one"),
        (["cat/1.png", "do\ng/1.png"], r"do\\ng'?: a class needs a name of one line"),
        (["cat/1.png", "do\x85g/1.png"], "a class needs a name of one line"),
        (["cat/1.png", os.fsdecode(b"d\xe4n") + "/1.png"], "a class needs a name of one line"),
    ],
)
def test_what_cannot_be_told_apart_is_refused_by_name(files, words, tmp_path) -> None:
    with pytest.raises(InputError, match=words) as caught:
        layout.read(put(tmp_path, *files))
    assert len(str(caught.value).splitlines()) == 1


def test_pictures_lie_anywhere_below_their_class_under_any_ending(tmp_path) -> None:
    pictures = ("0.JFIF", "a/1.webp", "a/b/2.TIFF", "c/3.png", "d.photo", "e")
    put(tmp_path, *(f"cat/{name}" for name in pictures), "dog/0.png")
    hidden = ("cat/.0.png", "cat/.a/1.png", ".git/0.png", "__MACOSX/cat/0.png")
    put(tmp_path, *hidden)
    put(tmp_path, "cat/notes.txt", "cat/a/NOTES.TXT", "dog/live.heic", "dog/c", content=b"no")
    read = layout.read(tmp_path)
    cats = [file for file, label in read.splits["train"] if label == 0]
    names = [str(file.relative_to(tmp_path / "cat")) for file in cats]
    assert names == [name for i, name in enumerate(pictures) if i % 5 != 4]
    assert read.notes == (
        f"{tmp_path}: 7 pictures of 2 classes; skipped 2 .txt, 1 without an ending, 1 .heic",
    )


def raw(name: str, *tags: tuple[int, int, int]) -> tuple[str, bytes]:
    return name, tiff((0x100, 4, 160), *tags) + bytes(4)


THUMBNAIL, DNG = (0xFE, 4, 1), (0xC612, 4, 0x401)
CANON = b"II\x2a\x00\x10\x00\x00\x00CR\x02\x00" + bytes(100)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(raw(f"1{ending}") for ending in (".CR2", ".NEF", ".dng", ".ARW", ".ORF", ".pef", ".RAW")),
        *(raw(f"1{ending}", THUMBNAIL) for ending in ("", ".old", ".nef.1")),
        *(raw(f"1{ending}", DNG) for ending in ("", ".old")),
        ("1", CANON),
        ("1.NEF", b"MM" + bytes([0, 42, 0, 0, 0, 8, 0, 0])),
    ],
)
def test_raw_files_of_cameras_are_skipped_and_counted(name, content, tmp_path) -> None:
    put(tmp_path, "cat/0.png", "dog/0.png", "dog/2.NEF")  # The last is a PNG file by its content.
    put(tmp_path, f"cat/{name}", content=content)
    kind = pathlib.Path(name).suffix.lower() or "without an ending"
    assert layout.read(tmp_path).notes == (
        f"{tmp_path}: 3 pictures of 2 classes; skipped 1 {kind}",
    )


@pytest.mark.parametrize("content", [raw("", THUMBNAIL)[1], raw("", DNG)[1], CANON])
def test_a_raw_file_that_is_called_a_picture_is_refused_by_name(content, tmp_path) -> None:
    put(tmp_path, "cat/0.png", "dog/0.png")
    put(tmp_path, "dog/1.tif", content=content)
    words = "dog/1.tif cannot be read: it is a camera's raw file: turn it into JPEG"
    with pytest.raises(InputError, match=words):
        data.load(str(tmp_path), "train")


def test_a_tiff_file_is_a_picture_under_any_name(tmp_path) -> None:
    put(tmp_path, "cat/0.png", "dog/0.png")
    put(tmp_path, "dog/scan", content=encoded(RGB, "TIFF"))
    assert data.load(str(tmp_path), "train", image_size=4).counts.tolist() == [1, 2]


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(
    "folders",
    [
        ("train/{c}", "test/{d}", "train/dog", "test/dog"),
        ("train/{d}", "train/{c}", "test/{c}", "train/dog", "test/dog"),
        ("{c}", "{d}", "dog"),
    ],
)
def test_names_that_differ_in_their_code_points_alone_are_one_class(folders, tmp_path) -> None:
    put(tmp_path, *(f"{f.format(c=COMPOSED, d=DECOMPOSED)}/{i}.png" for i, f in enumerate(folders)))
    read = layout.read(tmp_path)
    assert read.class_names == (COMPOSED, "dog")
    assert read.notes[-1] == (
        f"{tmp_path}: one class each, although Unicode writes them twice: {COMPOSED!r}"
    )
    cups = {file.parent.name for part in read.splits.values() for file, k in part if k == 0}
    assert cups == {COMPOSED, DECOMPOSED}


def test_a_split_is_found_however_its_name_is_written(tmp_path) -> None:
    put(tmp_path, *both("train", DECOMPOSED))
    assert COMPOSED in layout.read(tmp_path).splits


@pytest.mark.parametrize("name", ["1.png", "1.fifo"])
def test_what_is_no_regular_file_is_skipped_unopened(name, tmp_path, monkeypatch) -> None:
    put(tmp_path, "cat/0.png", "dog/0.png")
    os.mkfifo(tmp_path / "cat" / name)
    (tmp_path / "dog" / name).symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path / "dog")  # a socket's name is short
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("2.png")
        read = layout.read(tmp_path)
    assert read.notes == (f"{tmp_path}: 2 pictures of 2 classes; skipped 3 no regular file",)


def test_linked_folders_are_followed_but_in_no_circle(tmp_path) -> None:
    put(
        tmp_path, "data/cat/0.png", "data/cat/b/1.png", "data/dog/0.png", "more/3.png", "more/4.png"
    )
    cats = tmp_path / "data" / "cat"
    (cats / "more").symlink_to(tmp_path / "more")
    (tmp_path / "more" / "back").symlink_to(cats)
    for name, place in (("a", "b"), ("here", "."), ("all", "..")):
        (cats / name).symlink_to(place)
    pictures, others = layout.pictures_below(cats)
    names = [str(file.relative_to(cats)) for file in pictures]
    assert names == ["0.png", "b/1.png", "more/3.png", "more/4.png"]
    assert others == []
    (tmp_path / "linked").symlink_to(cats)
    assert len(layout.pictures_below(tmp_path / "linked")[0]) == 4


def test_a_folder_that_cannot_be_read_is_named(tmp_path) -> None:
    put(tmp_path, "cat/a/1.png", "cat/0.png")
    (tmp_path / "cat" / "a").chmod(0)
    if os.access(tmp_path / "cat" / "a", os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(InputError, match="cat/a cannot be read: Permission denied"):
        layout.pictures_below(tmp_path)


@pytest.mark.parametrize(
    ("where", "splits"), [(".", ()), (".", ("train", "test")), ("train", ("train",))]
)
def test_pictures_beside_the_folders_of_classes_are_told(where, splits, tmp_path) -> None:
    put(tmp_path, *(both(*splits) if splits else ["cat/1.png", "dog/1.png"]))
    put(tmp_path, *(f"{where}/{i}.jpg" for i in range(15)), f"{where}/.0.png")
    put(tmp_path, f"{where}/notes.txt", content=b"no")
    told = f"{tmp_path / where}: left out 15 pictures that lie in no class's folder"
    assert told in layout.read(tmp_path).notes
