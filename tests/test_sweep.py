"""Sweeps: the grid is checked first, every run is a process, and a sweep goes on where it was."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from tf_cutnmix import command, experiment, sweep
from tf_cutnmix.config import Config
from tf_cutnmix.errors import InputError

BASE = (
    "--train_split=train[:80]",
    "--test_split=test[:50]",
    "--validation_fraction=0.2",
    "--batch_size=32",
    "--num_peers=1",
    "--method=independent",
    "--mix=none",
    "--epochs=1",
    "--learning_rate=0.05",
)


def start(folder: pathlib.Path, *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tf_cutnmix.sweep", *BASE, f"--workdir={folder}", *flags],
        cwd=folder.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(folder: pathlib.Path, *flags: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a whole sweep."""
    process = start(folder, *flags)
    stdout, stderr = process.communicate(timeout=300)
    return process.returncode, stdout, stderr


def wait_for(path: pathlib.Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def settings(*flags: str) -> sweep.Settings:
    return command.parse(sweep.Settings, ["--workdir=sweeps/x", *flags])


def epochs(folder: pathlib.Path) -> list[int]:
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(row)["epoch"] for row in rows]


# The runs of a grid


def test_each_run_has_the_shared_settings_its_own_and_its_own_folder() -> None:
    configs = sweep.make_configs(settings("--epochs=3", "--grid=mix=none,mixup", "--grid=seed=0,7"))
    names = ("mix=none,seed=0", "mix=none,seed=7", "mix=mixup,seed=0", "mix=mixup,seed=7")
    assert tuple(configs) == names
    assert configs["mix=mixup,seed=7"] == Config(
        epochs=3,
        mix="mixup",
        seed=7,
        export="",
        resume=True,
        workdir="sweeps/x/mix=mixup,seed=7",
        export_dir="sweeps/x/mix=mixup,seed=7/savedmodels",
    )


def test_values_are_of_the_type_of_their_setting() -> None:
    configs = sweep.make_configs(settings("--grid=learning_rate=.1,1e-2", "--grid=arch=a,b|c"))
    assert [config.learning_rate for config in configs.values()] == [0.1, 0.1, 0.01, 0.01]
    assert [config.arch for config in configs.values()] == ["a,b", "c"] * 2
    assert next(iter(configs)) == "learning_rate=0.1,arch=a+b"


def test_overwriting_takes_the_place_of_resuming() -> None:
    (config,) = sweep.make_configs(settings("--overwrite", "--grid=seed=0")).values()
    assert (config.overwrite, config.resume) == (True, False)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["--grid is missing"]),
        (["--grid=methd=dml"], ["'methd'", "did you mean 'method'"]),
        (["--grid=epochs=1,many"], ["epochs", "many"]),
        (["--grid=epochs=1,0"], ["--epochs=0", "1 or more"]),
        (["--grid=schedule=step,stop"], ["schedule", "stop"]),
        (["--grid=seed="], ["--grid=seed="]),
        (["--grid=seed=0", "--grid=seed=1"], ["seed twice"]),
        (["--grid=learning_rate=.1,0.1"], ["learning_rate=0.1", "share"]),
        (["--grid=data_dir=a/b,a:b"], ["data_dir=a_b", "share"]),
        (["--grid=workdir=a,b"], ["cannot vary workdir"]),
        (["--grid=resume=true,false"], ["cannot vary resume"]),
        (["--grid=overwrite=true,false"], ["cannot vary overwrite"]),
        (["--grid=export_dir=a,b"], ["cannot vary export_dir"]),
        (["--grid=seed=0", "--export_dir=/tmp"], ["--export_dir=/tmp", "inside the folder"]),
        (["--grid=seed=0", "--export_dir=../x"], ["--export_dir=../x", "inside the folder"]),
        (["--grid=seed=0", "--workdir="], ["--workdir is missing"]),
    ],
)
def test_a_grid_that_cannot_be_used_is_refused(flags: list[str], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        sweep.make_configs(settings(*flags))
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_that_nothing_knows_ends_the_sweep_before_its_first_run(
    tmp_path: pathlib.Path,
) -> None:
    code, stdout, stderr = run(tmp_path / "x", "--grid=method=independent,cutnmx")
    assert (code, stdout) == (1, "")
    assert stderr == "error: unknown --method 'cutnmx': did you mean 'cutnmix'?\n"
    assert not (tmp_path / "x").exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    code, stdout, stderr = run(tmp_path / "file", "--grid=seed=0")
    assert (code, stdout) == (1, "")
    assert re.fullmatch(r"error: --workdir=\S+ cannot be written: File exists\n", stderr)


# Whole sweeps


def test_a_failed_run_does_not_end_the_sweep_and_the_rest_is_not_repeated(
    tmp_path: pathlib.Path,
) -> None:
    folder = tmp_path / "x"
    grid = "--grid=learning_rate=0.05,1e30,0.01"
    good, bad = folder / "learning_rate=0.05", folder / "learning_rate=1e+30"
    code, stdout, stderr = run(folder, grid, "--export=peer")
    assert code == 1
    assert stderr.startswith("error: 1 of 3 runs failed")
    assert stderr.count("\n") == 1
    lines = stdout.splitlines()
    assert lines[0] == "[1/3] learning_rate=0.05: started"
    assert re.fullmatch(
        r"\[1/3\] learning_rate=0.05: teacher \d+\.\d\d% \(\d+ s\); about \d+ (s|min) left",
        lines[1],
    )
    assert "[2/3] learning_rate=1e+30: failed: step 1" in lines[3]
    assert re.fullmatch(r"\[3/3\] learning_rate=0.01: teacher \d+\.\d\d% \(\d+ s\)", lines[5])
    assert [line.split(" ")[0] for line in lines[8:]] == [
        "learning_rate=0.05",
        "learning_rate=0.01",
    ]
    assert "not finite" in (bad / "error.txt").read_text()
    assert "Traceback" not in (bad / "error.txt").read_text()
    assert "cross_entropy" in (good / "log.txt").read_text()
    assert len(list(good.glob("savedmodels/*/1/saved_model.pb"))) == 1

    before = (good / "result.json").stat().st_mtime_ns
    code, stdout, stderr = run(folder, grid, "--export=peer")
    assert code == 1
    assert "[1/3] learning_rate=0.05: done already\n" in stdout
    assert "[2/3] learning_rate=1e+30: failed" in stdout
    assert "[3/3] learning_rate=0.01: done already\n" in stdout
    assert (good / "result.json").stat().st_mtime_ns == before


def test_a_run_of_a_sweep_is_the_run_that_train_makes(tmp_path: pathlib.Path) -> None:
    assert run(tmp_path / "x", "--grid=seed=3")[0] == 0
    alone = command.parse(Config, [*BASE, "--seed=3", "--export=", f"--workdir={tmp_path}/alone"])
    result = experiment.train_and_evaluate(alone)
    made = json.loads((tmp_path / "x" / "seed=3" / "result.json").read_text())
    assert made["last"] == result["last"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_is_ended_goes_on_where_it_stopped(
    number: signal.Signals, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "x"
    flags = ("--grid=seed=0", "--epochs=40", "--grid=alpha=1.0")
    process = start(folder, *flags)
    cell = folder / "seed=0,alpha=1.0"
    wait_for(cell / "last.npz")
    # Ctrl-C reaches the whole terminal, a kill the sweep alone.
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert (process.returncode, stderr) == (130, "interrupted\n")
    done = len(epochs(cell))
    assert 1 <= done < 40
    time.sleep(1.0)
    assert len(epochs(cell)) <= done + 1
    assert not (cell / "result.json").exists()
    assert "KeyboardInterrupt" not in (cell / "log.txt").read_text()

    code, stdout, stderr = run(folder, *flags)
    assert (code, stderr) == (0, "")
    assert "[1/1] seed=0,alpha=1.0: teacher" in stdout
    assert epochs(cell) == list(range(1, 41))
    resumed = [line for line in (cell / "log.txt").read_text().splitlines() if "Epoch 1/" in line]
    assert len(resumed) == 1


def test_a_run_whose_process_dies_and_one_with_other_settings_fail_alone(
    tmp_path: pathlib.Path,
) -> None:
    folder = tmp_path / "x"
    other = folder / "seed=1"
    other.mkdir(parents=True)
    (other / "flags.cfg").write_text("--epochs=77\n")
    process = start(folder, "--grid=seed=0,1,2", "--epochs=1")
    wait_for(folder / "seed=0" / "log.txt")
    os.kill(cell_process(process.pid), signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: 2 of 3 runs failed" in stderr
    assert "signal SIGKILL" in (folder / "seed=0" / "error.txt").read_text()
    assert "was begun with --epochs=77" in (other / "error.txt").read_text()
    assert "[3/3] seed=2: teacher" in stdout


def cell_process(sweep_process: int) -> int:
    """The one grandchild that trains: the server's child."""
    children: dict[int, list[int]] = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    (cell,) = [c for child in children[sweep_process] for c in children.get(child, [])]
    return cell


def test_a_method_that_cannot_take_the_peers_is_recorded_and_the_rest_goes_on(tmp_path):
    code, stdout, stderr = run(tmp_path / "sweep", "--grid=method=okddip,independent")
    assert code == 1
    reason = "--method=okddip needs 3 peers or more and has 1: pass --num_peers=3"
    assert f"[1/2] method=okddip: failed: {reason}" in stdout
    assert (tmp_path / "sweep" / "method=okddip" / "error.txt").read_text() == f"{reason}\n"
    assert (tmp_path / "sweep" / "method=independent" / "result.json").exists()
    assert stderr.startswith("error: 1 of 2 runs failed")
