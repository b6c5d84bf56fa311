"""What a command does where nobody reads what it prints."""

import os
import pathlib
import subprocess
import sys
import time

import pytest

from tf_cutnmix import output
from tf_cutnmix.runs import checkpoints

ROOT = pathlib.Path(__file__).parents[1]
DOORS = ("train", "evaluate", "predict", "export", "sweep", "report")


def command(door: str, *flags: str) -> list[str]:
    return [sys.executable, "-m", f"tf_cutnmix.{door}", *flags]


def environment() -> dict[str, str]:
    places = (str(ROOT), os.environ["PYTHONPATH"])  # the networks of tests are in the second one
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}


@pytest.mark.parametrize("door", DOORS)
def test_a_closed_pipe_ends_every_command_quietly(door):
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        command(door, "--help"), stdout=writing, stderr=subprocess.PIPE, env=environment()
    )
    os.close(writing)
    assert (process.returncode, process.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("redirection", "code", "printed"),
    [
        (">/dev/full", 1, "error: No space left on device\n"),
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
    ],
)
def test_a_full_device_is_one_line_and_a_closed_stream_nothing(redirection, code, printed):
    process = subprocess.run(
        f'"{sys.executable}" -m tf_cutnmix.train --help {redirection}',
        shell=True,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert (process.returncode, process.stderr) == (code, printed)


def test_what_takes_long_is_said_and_what_does_not_is_silent(capfd, monkeypatch):
    monkeypatch.setattr(output, "_PATIENCE", 0.05)
    print("before")
    with output.waiting("reading"):
        time.sleep(0.5)
    with output.waiting("asking", 2):
        time.sleep(0.5)
    monkeypatch.setattr(output, "_PATIENCE", 3600)
    with output.waiting("nothing"):
        print("after")
    assert capfd.readouterr() == ("before\nreading\nafter\n", "asking\n")


@pytest.mark.long
def test_a_run_whose_output_nobody_reads_any_longer_is_saved(tmp_path):
    flags = ("--epochs=500", "--num_peers=1", "--method=independent", "--mix=none", "--workdir=run")
    small = ("--arch=tiny_networks:tiny", "--train_split=train[:160]", "--test_split=test[:32]")
    process = subprocess.Popen(
        command("train", *flags, *small),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert any(line.split()[:1] == ["epoch"] for line in process.stdout)
    process.stdout.close()
    assert "; that is saved in run: the same command with --resume goes" in process.stderr.read()
    assert process.wait() == 141
    assert checkpoints.newest(tmp_path / "run")[0].facts["epoch"] >= 1
