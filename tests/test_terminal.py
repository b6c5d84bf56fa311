"""What a command does where nobody reads what it prints."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time
from typing import Any

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


# In a process for each case, forked from one that has imported what all commands do.
CASES = """
import itertools, json, os, runpy, sys
from tf_cutnmix import command
from tf_cutnmix.runs import config

def place(kind, name):
    if kind == "pipe":
        reading, writing = os.pipe()
        os.close(reading)
        return writing
    return os.open("/dev/full" if kind == "full" else name, os.O_WRONLY)

ended = []
kinds = ("read", "pipe", "closed", "full")
outputs = [("read", kind) for kind in kinds] + [(kind, "read") for kind in kinds[1:]]
outputs += [(kind, kind) for kind in kinds[1:]]
for door, flag, (out, err) in itertools.product(sys.argv[1:], ("--help", "--odd"), outputs):
    for name in ("out", "err"):
        open(name, "w").close()
    process = os.fork()
    if not process:
        sys.argv = ["a command", flag]
        places = place(out, "out"), place(err, "err")
        for number, (kind, name) in enumerate(((out, "stdout"), (err, "stderr")), start=1):
            os.dup2(places[number - 1], number)
            if kind == "closed":
                os.close(number)
                setattr(sys, name, None)
        runpy.run_module(f"tf_cutnmix.{door}", run_name="__main__")
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    printed = {name: open(name).read() for name in ("out", "err")}
    ended.append({"door": door, "flag": flag, "to": [out, err], "code": code, **printed})
print(json.dumps(ended))
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> list[dict[str, Any]]:
    """How each command ended, with each of its outputs read, closed or full."""
    process = subprocess.run(
        [sys.executable, "-c", CASES, *DOORS],
        cwd=tmp_path_factory.mktemp("ended"),
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    return json.loads(process.stdout)


@pytest.mark.parametrize("door", DOORS)
def test_help_that_nobody_reads_ends_quietly_and_on_a_full_device_in_one_line(door, ended):
    full = "error: No space left on device\n"
    expected = {"read": (0, ""), "closed": (0, ""), "pipe": (141, ""), "full": (1, full)}
    for case in (one for one in ended if (one["door"], one["flag"]) == (door, "--help")):
        out, err = case["to"]
        code, words = expected[out]
        assert (case["code"], case["err"]) == (code, words if err == "read" else "")
        assert case["out"].startswith("usage: ") == (out == "read")


@pytest.mark.parametrize("door", DOORS)
def test_an_error_is_one_line_or_nothing(door, ended):
    for case in (one for one in ended if (one["door"], one["flag"]) == (door, "--odd")):
        line = r"error: unknown flag 'odd': .*\n" if case["to"][1] == "read" else ""
        assert (case["code"], case["out"]) == (1, "")
        assert re.fullmatch(line, case["err"])


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
