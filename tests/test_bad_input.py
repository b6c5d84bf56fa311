"""Bad input: one clear line on stderr, exit code 1, nothing written.

What each wing refuses is tested there; here, that a command passes it on, a case of each kind.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.data.pictures import noise, write
from tests.processes import largest_file, python
from tf_cutnmix import command, evaluate, export, output, predict, report, sweep, train
from tf_cutnmix.runs import checkpoints
from tf_cutnmix.runs.config import Config

# A graph takes longer to build than the few steps here take.
pytestmark = pytest.mark.usefixtures("all_eagerly")

EXPORT = pathlib.Path(__file__).parents[1] / "savedmodels" / "digits_resnet8" / "1"
DIGIT = str(pathlib.Path(__file__).parents[1] / "docs" / "digit.png")

COMMANDS = {
    "train": (train.SUMMARY, Config, train.main),
    **{
        door.__name__.rpartition(".")[2]: (door.SUMMARY, door.Settings, door.main)
        for door in (evaluate, export, predict, report, sweep)
    },
}
SETTINGS = (
    "--arch=tiny_networks:tiny",
    "--workdir=run",
    "--epochs=2",
    "--batch_size=8",
    "--validation_fraction=0.25",
    "--num_peers=1",
    "--mix=none",
    "--method=independent",
    "--export_dir=exports",
)
PETS = ("--dataset=./pets", *SETTINGS)
# Without pictures to decode, which takes longer than the run.
DIGITS = ("--dataset=digits", "--train_split=train[:40]", "--test_split=test[:10]", *SETTINGS)

Refuse = Callable[..., str]


def contents(folder: pathlib.Path) -> dict[str, bytes | str]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def call(name: str, *arguments: str) -> int:
    """Run a command in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments])
        return command.run(f"tf_cutnmix.{name}", *COMMANDS[name])


def the_line(stderr: str) -> str:
    """What one line, and no more, says after "error: "."""
    assert stderr.startswith("error: ")
    assert stderr.endswith("\n")
    assert len(stderr.splitlines()) == 1
    return stderr.removeprefix("error: ").strip()


def write_pets(folder: pathlib.Path, count: int) -> None:
    for name in ("cats", "dogs"):
        for number in range(count):
            write(folder / "pets" / name / f"{number:02d}.png", noise(8, 8) + number)


@pytest.fixture
def refuse(tmp_path, monkeypatch, capfd) -> Refuse:
    """Runs a command that must fail; returns what its line says. Nothing may be written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(output, "_PATIENCE", 3600)  # what is waited for is no part of it

    def refused(name: str, *arguments: str) -> str:
        before = contents(tmp_path)
        capfd.readouterr()
        code = call(name, *arguments)
        stdout, stderr = capfd.readouterr()
        assert code == 1
        assert stdout == ""
        assert contents(tmp_path) == before
        return the_line(stderr)

    return refused


@pytest.fixture(scope="module")
def begun_once(tmp_path_factory) -> pathlib.Path:
    """A folder with pictures of two classes, a run on digits after one of two epochs, an export."""
    folder = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert call("train", *DIGITS, "--steps=3", "--export=teacher") == 0
    return folder


@pytest.fixture
def begun(begun_once, tmp_path, monkeypatch) -> pathlib.Path:
    """A copy of that folder, which the commands run in."""
    shutil.copytree(begun_once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


LONG = "x" * 256


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        # What does not go with other settings.
        ("train --method=okddip --num_peers=2", "needs 3 peers or more and has 2"),
        ("train --method=kdcl_general --validation_fraction=0", "pass --validation_fraction above"),
        ("train --patience=3 --validation_fraction=0", "pass --validation_fraction above"),
        ("train --calibrate=on --validation_fraction=0", "pass --validation_fraction above"),
        ("train --share=stage9", "peer 1, resnet8, has the stages stem, stage1, stage2, stage3"),
        (
            "train --share=stage9 --num_peers=1 --method=independent",
            "resnet8 has the stages stem, stage1",
        ),
        ("train --augment=augmix --jit=on", "XLA cannot compile --augment=augmix"),
        (f"train --method=kd --teacher={EXPORT} --jit=on", "XLA cannot compile --method=kd"),
        # A name that nothing knows, a number or a flag that is none.
        ("train --arch=resnet8,resnt8", "'resnt8': did you mean 'resnet8'?"),
        ("train --mix=cutmx", "'cutmx': did you mean 'cutmix'?"),
        ("train --epochs=99999999999999999999", "--epochs=99999999999999999999: must be "),
        ("train --epoch=3", "'epoch': did you mean 'epochs'?"),
        ("train stray", "unexpected argument 'stray': flags begin with --"),
        # Data and exports that are not there.
        ("train --batch_size=101 --train_split=train[:100]", "than the 90 training images"),
        ("train --test_split=tset", "'tset'"),
        ("train --dataset=~nouser", "there is no such folder"),
        ("train --method=kd --teacher=nowhere", "--teacher=nowhere: there is no such folder"),
        ("evaluate --savedmodel=nothing", "--savedmodel=nothing: there is no such folder"),
        # Names that no file can have.
        *((f"train --{flag}=./{LONG}", "") for flag in ("workdir", "dataset", "weights_from")),
        (f"train --export_dir=nowhere/{LONG}", ""),
        (f"train --dataset=cifar10 --data_dir={LONG}", ""),
        (f"train --method=kd --teacher=nowhere/{LONG}", ""),
        (f"train --flagfile={LONG}", ""),
        (f"evaluate --savedmodel={EXPORT} --dataset=./{LONG}", ""),
        (f"export --run={LONG}", ""),
        *((f"predict --savedmodel={EXPORT} --{f}={LONG} {DIGIT}", "") for f in ("csv", "out")),
        (f"report --out={LONG} .", ""),
        (f"sweep --workdir=nowhere/{LONG} --grid=seed=0", ""),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_line(refuse, arguments, words):
    assert words in refuse(*arguments.split(" "))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bytes(range(256)), "decode"),
        (b"--flagfile=x.cfg\n", "circular flagfile dependency"),
        (b"--workdir=a\0b\n", "is no text"),
    ],
)
def test_a_flagfile_that_is_none_is_refused(refuse, tmp_path, content, words):
    (tmp_path / "x.cfg").write_bytes(content)
    assert words in refuse("train", "--flagfile=x.cfg")


def test_pictures_that_cannot_be_trained_on_are_named(refuse, tmp_path):
    write_pets(tmp_path, 10)
    pets = tmp_path / "pets"
    shutil.copytree(pets, tmp_path / "both" / "train")
    shutil.copytree(pets, tmp_path / "both" / "test")
    for path in (tmp_path / "both" / "test").rglob("*.png"):
        write(path, noise(9, 9))
    assert "pass --image_size" in refuse("train", "--dataset=./both")
    whole = (pets / "cats" / "06.png").read_bytes()
    (pets / "cats" / "06.png").write_bytes(whole[:60])
    assert "cats/06.png" in refuse("train", "--dataset=./pets")
    write(pets / "cats" / "06.png", noise(6, 7))
    line = refuse("train", "--dataset=./pets")
    assert "cats/06.png has 7x6 pixels" in line
    assert "--image_size" in line


@pytest.mark.parametrize("flag", ["workdir", "export_dir"])
def test_a_folder_that_cannot_be_written_is_refused(refuse, tmp_path, flag):
    (tmp_path / "file").write_text("precious")
    for folder in ("file", "file/inside", "/dev/null/inside"):
        line = refuse("train", f"--{flag}={folder}")
        assert folder in line
        assert line.endswith(("file is a file", "/dev/null is a file"))
    if flag == "workdir":  # a folder that the system does not make
        assert "/proc/inside cannot be written" in refuse("train", "--workdir=/proc/inside")
    if os.geteuid():  # every folder can be written by root
        (tmp_path / "locked").mkdir(mode=0o555)
        assert "locked is read-only" in refuse("train", f"--{flag}=locked/inside")


# A folder that holds a run


def the_checkpoint(folder: pathlib.Path) -> pathlib.Path:
    (path,) = checkpoints.paths(folder / "run")
    return path


@pytest.mark.long
def test_a_run_is_not_replaced_nor_resumed_with_other_settings(begun, refuse):
    line = refuse("train", *DIGITS)
    assert line.startswith("run holds a run already: ")
    assert all(way in line for way in ("--resume", "--overwrite", "--workdir"))
    for setting in ("learning_rate=0.3", "epochs=5", "num_peers=2"):
        assert f"not with --{setting}" in refuse("train", *DIGITS, f"--{setting}", "--resume")
    write_pets(begun, 20)
    assert "was begun with --dataset=digits" in refuse("train", *PETS, "--resume")


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("[1, 2]", "exported nothing"),
        ('{"exports": {"teacher": 7}}', "is damaged"),
        ("[" * 100_000, "holds no saved_model.pb"),
        ('{"exports": {"teacher": "/etc"}}', "where no export is"),
        ('{"exports": {"teacher": "foreign/../pets"}}', "where no export is"),
    ],
)
def test_the_result_of_another_making_is_not_followed(refuse, tmp_path, result, words):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "result.json").write_text(result)
    assert words in refuse("evaluate", "--savedmodel=foreign")


# A full disk


@pytest.fixture
def small_disk(tmp_path) -> Iterator[pathlib.Path]:
    """A file system of 8 MiB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield disk
    os.chdir("/")
    subprocess.run(["umount", str(disk)], check=True)


def fill(file: str) -> None:
    with open(file, "wb", buffering=0) as filling:
        while True:
            filling.write(bytes(1024))


@pytest.mark.long
def test_a_checkpoint_survives_a_full_disk(begun, capfd):
    before = the_checkpoint(begun).read_bytes()
    with largest_file(20_000):
        assert call("train", *DIGITS, "--resume") == 1
    assert ".npz: File too large" in the_line(capfd.readouterr().err)
    assert the_checkpoint(begun).read_bytes() == before
    assert not list((begun / "run").rglob("*.tmp"))

    assert call("train", *DIGITS, "--resume", "--export=") == 0
    rows = (begun / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2]


@pytest.mark.long
def test_a_resume_that_cannot_write_the_small_files_costs_no_run(begun):
    """In a process, whose one line is all that a user sees."""
    limited = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
        "os.execv(sys.executable, [sys.executable, '-P', '-m', 'tf_cutnmix.train', *sys.argv[1:]])"
    )
    process = python("-P", "-c", limited, *DIGITS, "--resume", "--export=", cwd=begun)
    assert process.returncode == 1
    # The temporary files of TensorFlow's AutoGraph are cut off too, and it warns of that first.
    assert the_line(process.stderr.splitlines(keepends=True)[-1])
    assert "Traceback" not in process.stderr
    assert call("train", *DIGITS, "--resume", "--export=", "--steps=1") == 0


@pytest.mark.long
def test_a_disk_without_any_room_costs_no_run(begun_once, small_disk, monkeypatch, capfd):
    shutil.copytree(begun_once, small_disk, dirs_exist_ok=True)
    monkeypatch.chdir(small_disk)
    before = the_checkpoint(small_disk).read_bytes()
    with pytest.raises(OSError, match="No space"):
        fill("filling")
    assert call("train", *DIGITS, "--resume", "--export=") == 1
    the_line(capfd.readouterr().err)
    assert the_checkpoint(small_disk).read_bytes() == before

    pathlib.Path("filling").unlink()
    assert call("train", *DIGITS, "--resume", "--export=") == 0
