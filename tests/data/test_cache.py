"""Images that lie ready: equal to those that are read, whole or not there, made once."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import types

import numpy as np
import pytest

from tests.data.pictures import plain, values, write
from tests.processes import largest_file
from tf_cutnmix import data
from tf_cutnmix.errors import InputError

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def pets(pets: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy, that may be changed."""
    return shutil.copytree(pets, tmp_path / "pets")


@pytest.fixture
def cache(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "cache"


def entries(cache: pathlib.Path) -> list[pathlib.Path]:
    """Whole ones."""
    return sorted(path for path in cache.iterdir() if not path.name.startswith("."))


def load(pets: pathlib.Path, cache: pathlib.Path, split: str = "train", size: int = 0):
    return data.load(str(pets), split, image_size=size, cache_dir=str(cache))


def same(one: data.Images, other: data.Images) -> None:
    np.testing.assert_array_equal(one.pixels, other.pixels)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.class_names == other.class_names
    assert one.digests() == other.digests()
    assert one.statistics() == other.statistics()


def change_unseen(path: pathlib.Path) -> None:
    """Other bytes of the same number and date."""
    found = path.stat()
    path.write_bytes(bytes(found.st_size))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def test_they_are_equal_to_those_that_are_read_and_are_read_once(pets, cache) -> None:
    asked = [("train", "7x9"), ("train", 9), ("test", 0), ("train[3:8]+test", 0)]
    read = [data.load(str(pets), split, image_size=size) for split, size in asked]
    for (split, size), expected in zip(asked, read, strict=True):
        same(load(pets, cache, split, size), expected)
    for picture in pets.rglob("*.png"):
        change_unseen(picture)
    for (split, size), expected in zip(asked, read, strict=True):
        again = load(pets, cache, split, size)
        same(again, expected)
        assert isinstance(again.pixels, np.memmap)
        assert again.notes[:-1] == expected.notes
        names = [
            [images.name(i) for i in range(len(images.labels))] for images in (again, expected)
        ]
        assert names[0] == names[1]
        assert all(pathlib.Path(name).is_file() for name in names[0])
    assert again.notes[-1] in [f"images lie in {entry}" for entry in entries(cache)]
    assert len(entries(cache)) == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda pets: os.utime(next(pets.rglob("*.png")), (1, 1)),
        lambda pets: write(pets / "cat" / "new.png", plain(3)),
        lambda pets: (pets / "cat").rename(pets / "tiger"),
        lambda pets: shutil.move(next((pets / "cat").glob("*.png")), pets / "dog" / "moved.png"),
    ],
)
def test_a_folder_that_was_changed_is_read_anew(pets, cache, change) -> None:
    load(pets, cache)
    change(pets)
    same(load(pets, cache), data.load(str(pets), "train"))
    assert len(entries(cache)) == 2


def test_what_cannot_be_read_leaves_nothing(pets, cache) -> None:
    broken = next(pets.rglob("*.png"))
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(InputError, match=f"{broken} cannot be read"):
        load(pets, cache)
    assert not entries(cache)


def test_a_disk_without_room_is_named_before_an_image_is_read(pets, cache, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=10))
    with pytest.raises(InputError, match=r"--cache_dir: the images take 0\.0 GiB and its disk has"):
        load(pets, cache)
    assert not entries(cache)


def test_a_file_that_the_system_refuses_is_one_line(pets, cache) -> None:
    words = "cannot be written: File too large"
    with largest_file(500), pytest.raises(InputError, match=words):
        load(pets, cache)
    assert not entries(cache)


@pytest.mark.parametrize("name", ["pixels.npy", "facts.npz"])
def test_an_entry_that_was_cut_off_is_named(pets, cache, name) -> None:
    load(pets, cache)
    (entry,) = entries(cache)
    whole = (entry / name).read_bytes()
    (entry / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=f"{entry} cannot be read, remove it"):
        load(pets, cache)


def test_what_is_held_out_is_not_copied(pets, cache) -> None:
    images = load(pets, cache)
    train, validation = data.hold_out(images, 0.25)
    assert sorted(values(train) + values(validation)) == values(images)
    assert np.shares_memory(train.pixels._array, images.pixels)
    batches = data.ordered_batches(validation, 3).as_numpy_iterator()
    np.testing.assert_array_equal(np.concatenate([b for b, _ in batches]), validation.pixels)


READ = """
import pathlib, sys, time
from tests.processes import largest_file
from tf_cutnmix import data
from tf_cutnmix.data import cache
plain = cache.collect
def collect(*args):
    print("reads", flush=True)
    while not pathlib.Path(sys.argv[3]).exists():
        time.sleep(0.01)
    return plain(*args)
cache.collect = collect
images = data.load(sys.argv[1], "train", cache_dir=sys.argv[2])
print(images.pixels.sum(), flush=True)
"""


@pytest.mark.long
def test_of_two_that_ask_at_once_one_reads_and_what_a_killed_one_left_is_removed(
    pets, cache, tmp_path
) -> None:
    command = [sys.executable, "-c", READ, *map(str, (pets, cache, tmp_path / "go"))]
    readers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in "12"]
    lines = [reader.stdout.readline() for reader in readers]
    (entry,) = [p.name[1:].rpartition("-")[0] for p in cache.glob(".*-*/")]
    waits = f"another process makes {cache / entry}: waiting for it\n"
    assert sorted(lines) == [waits, "reads\n"]
    first, second = readers if lines[1] == waits else readers[::-1]
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert second.stdout.readline() == "reads\n"
    assert len(list(cache.glob(".*-*/"))) == 1
    (tmp_path / "go").touch()
    expected = data.load(str(pets), "train")
    assert second.communicate()[0] == f"{expected.pixels.sum()}\n"
    same(load(pets, cache), expected)
    assert not list(cache.glob(".*-*/"))
