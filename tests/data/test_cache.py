"""Images that lie ready: equal to those that are read, whole or not there, made once."""

import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import types

import numpy as np
import pytest

from tests.data.pictures import plain, values, write, write_class
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


@pytest.mark.parametrize(("split", "size"), [("train", 0), ("test", 9), ("train[3:8]+test", 0)])
def test_they_are_equal_to_those_that_are_read_and_are_read_once(pets, cache, split, size) -> None:
    read = data.load(str(pets), split, image_size=size)
    same(load(pets, cache, split, size), read)
    for picture in pets.rglob("*.png"):
        change_unseen(picture)
    again = load(pets, cache, split, size)
    same(again, read)
    assert isinstance(again.pixels, np.memmap)
    assert again.notes[-1] == f"images lie in {entries(cache)[0]}"
    assert again.notes[:-1] == read.notes


def test_digits_lie_ready_too(cache) -> None:
    same(load("digits", cache), data.load("digits", "train"))


def touch(pets: pathlib.Path) -> None:
    os.utime(next(pets.rglob("*.png")), (1, 1))


@pytest.mark.parametrize(
    "change",
    [
        touch,
        lambda pets: write(pets / "cat" / "new.png", plain(3)),
        lambda pets: next(pets.rglob("*.png")).unlink(),
        lambda pets: (pets / "cat").rename(pets / "tiger"),
        lambda pets: shutil.move(next((pets / "cat").glob("*.png")), pets / "dog" / "moved.png"),
    ],
)
def test_a_folder_that_was_changed_is_read_anew(pets, cache, change) -> None:
    load(pets, cache)
    change(pets)
    same(load(pets, cache), data.load(str(pets), "train"))
    assert len(entries(cache)) == 2


def test_what_is_asked_for_has_an_entry_of_its_own(pets, cache) -> None:
    for split, size in [("train", 0), ("train", 8), ("test", 0), ("train[:50%]", 0), ("train", 0)]:
        load(pets, cache, split, size)
    assert len(entries(cache)) == 4


def test_a_folder_elsewhere_is_another(pets, cache, tmp_path) -> None:
    load(pets, cache)
    other = tmp_path / "other" / pets.name
    for number, name in enumerate(("cat", "dog")):
        write_class(other / name, range(100 + 50 * number, 110 + 50 * number))
    same(load(other, cache), data.load(str(other), "train"))


def test_what_cannot_be_read_leaves_nothing(pets, cache) -> None:
    broken = next(pets.rglob("*.png"))
    whole = broken.read_bytes()
    broken.write_bytes(whole[:40])
    with pytest.raises(InputError, match=f"{broken} cannot be read"):
        load(pets, cache)
    assert not entries(cache)
    broken.write_bytes(whole)
    same(load(pets, cache), data.load(str(pets), "train"))


def test_a_disk_without_room_is_said_before_an_image_is_read(pets, cache, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=10))
    with pytest.raises(InputError, match=f"--cache_dir: the images take 0.0 GiB and {cache} has"):
        load(pets, cache)
    assert not entries(cache)


def test_a_file_that_the_system_refuses_is_one_line(pets, cache) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        with pytest.raises(InputError, match="cannot be written: File too large"):
            load(pets, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not entries(cache)


def test_no_folder_can_be_made_there(pets, tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--cache_dir=.*file/x cannot be written: Not a dir"):
        load(pets, tmp_path / "file" / "x")


@pytest.mark.parametrize("name", ["pixels.npy", "facts.npz"])
def test_an_entry_that_was_cut_off_is_named(pets, cache, name) -> None:
    load(pets, cache)
    (entry,) = entries(cache)
    whole = (entry / name).read_bytes()
    (entry / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=f"{entry} cannot be read: remove it, it is made anew"):
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


def reader(pets: pathlib.Path, cache: pathlib.Path, allowed: pathlib.Path) -> subprocess.Popen:
    """A process that reads the pictures once a file is there."""
    command = [sys.executable, "-c", READ, *map(str, (pets, cache, allowed))]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.long
def test_of_two_that_ask_at_once_one_reads(pets, cache, tmp_path) -> None:
    first = reader(pets, cache, tmp_path / "go")
    assert first.stdout.readline() == "reads\n"
    second = reader(pets, cache, tmp_path / "go")
    said = second.stdout.readline()
    (entry,) = [p.name[1:].rpartition("-")[0] for p in cache.glob(".*-*/")]
    assert said == f"another process makes {cache / entry}: waiting for it\n"
    (tmp_path / "go").touch()
    total = f"{data.load(str(pets), 'train').pixels.sum()}\n"
    assert [process.communicate()[0] for process in (first, second)] == [total, total]


@pytest.mark.long
def test_what_a_killed_reader_left_is_removed_by_the_next(pets, cache) -> None:
    killed = reader(pets, cache, pets / "never")
    assert killed.stdout.readline() == "reads\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert list(cache.glob(".*-*/"))
    same(load(pets, cache), data.load(str(pets), "train"))
    assert not list(cache.glob(".*-*/"))
