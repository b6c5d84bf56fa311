"""Writing: all or nothing, never through a planted link, one process at a time."""

import os
import pathlib
import subprocess
import sys

import pytest

from tf_cutnmix import files
from tf_cutnmix.errors import InputError, RunError

HOLD = """
import pathlib, sys
from tf_cutnmix import files
with files.locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

MAKE = """
import pathlib, sys
from tf_cutnmix import files
with files.scratch(pathlib.Path(sys.argv[1]), ".export-") as made:
    (made / "half").touch()
    print(made.name, flush=True)
    sys.stdin.read()
"""


def names(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_and_nothing_left_beside_it(tmp_path):
    for content in (b"one", b"two"):
        files.write(tmp_path / "x", content)
    assert (tmp_path / "x").read_bytes() == b"two"
    assert names(tmp_path) == ["x"]


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_after(tmp_path, monkeypatch):
    """Else a loss of power could leave an empty file where a whole one was."""
    done, fsync, replace = [], os.fsync, os.replace

    def synced(descriptor: int) -> None:
        found = os.fstat(descriptor)
        names = {path.stat().st_ino: path for path in (tmp_path, *tmp_path.iterdir())}
        done.append(("synced", names[found.st_ino].suffix, found.st_size))
        fsync(descriptor)

    def replaced(source: pathlib.Path, target: pathlib.Path) -> None:
        done.append(("renamed", source.suffix, source.stat().st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    files.write(tmp_path / "x", b"whole")
    assert done[:2] == [("synced", ".tmp", 5), ("renamed", ".tmp", 5)]
    assert [event[:2] for event in done[2:]] == [("synced", tmp_path.suffix)]


def test_a_file_has_the_rights_that_others_have(tmp_path):
    files.write(tmp_path / "x", b"")
    (tmp_path / "y").touch()
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "y").stat().st_mode


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path):
    files.write(tmp_path / ("x" * 255), b"long")
    assert (tmp_path / ("x" * 255)).read_bytes() == b"long"


def test_a_link_that_lies_where_the_temporary_file_goes_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "guessed")
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / ".guessed.tmp").symlink_to(tmp_path / "victim")
    with pytest.raises(RunError, match=r"cannot write .*x: File exists"):
        files.write(tmp_path / "x", b"evil")
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(InputError, match="cannot be written"), files.locked(tmp_path):
        pass
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_one_process_at_a_time_and_a_killed_one_holds_nothing(tmp_path):
    folder = tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        words = f"run is being written by process {holder.pid} on {os.uname().nodename}: "
        with pytest.raises(InputError, match=words), files.locked(folder):
            pass
    finally:
        holder.kill()
        holder.wait()
    (folder / ".left.tmp").touch()
    with files.locked(folder):
        assert names(folder) == [".lock"]
    assert names(folder) == []


def test_the_same_process_does_not_hold_a_folder_twice(tmp_path):
    with files.locked(tmp_path):
        with pytest.raises(InputError, match=f"process {os.getpid()}"), files.locked(tmp_path):
            pass
        with pytest.raises(InputError, match=f"process {os.getpid()}"), files.locked(tmp_path):
            pass
    with files.locked(tmp_path):
        pass


def test_folders_that_were_made_go_if_nothing_came_into_them(tmp_path):
    with files.locked(tmp_path / "a" / "b"):
        pass
    assert names(tmp_path) == []
    with files.locked(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "x").touch()
    assert names(tmp_path / "a" / "b") == ["x"]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_uses_is_not(tmp_path):
    maker = subprocess.Popen(
        [sys.executable, "-c", MAKE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        used = maker.stdout.readline().decode().strip()
        (tmp_path / ".export-of-somebody-else").mkdir()
        with files.scratch(tmp_path, ".export-") as mine:
            assert (tmp_path / used / "half").exists()
            assert len(names(tmp_path)) == 3
        assert not mine.exists()
    finally:
        maker.kill()
        maker.wait()
    assert (tmp_path / used / "half").exists()
    with files.scratch(tmp_path, ".export-") as mine:
        assert names(tmp_path) == sorted([mine.name, ".export-of-somebody-else"])
    assert names(tmp_path) == [".export-of-somebody-else"]


def test_a_scratch_folder_that_is_in_use_here_is_left_alone(tmp_path):
    with files.scratch(tmp_path, ".export-") as first, files.scratch(tmp_path, ".export-"):
        assert first.exists()
