"""Sweeps: the grid is checked first, every run is a process, and a sweep goes on where it was."""

import contextlib
import json
import multiprocessing
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import pytest

from tf_cutnmix import command, files, sweep
from tf_cutnmix.errors import InputError
from tf_cutnmix.runs import experiment
from tf_cutnmix.runs.config import Config, settings_in
from tf_cutnmix.sweeps import processes

BASE = (
    "--arch=tiny_networks:tiny",
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
        # What a shell starts in the background, the suite perhaps, ignores interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.fixture
def run_here(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Exit code, stdout and stderr of a sweep that shares with others the server of TensorFlow."""

    def called(folder: pathlib.Path, *flags: str) -> tuple[int, str, str]:
        monkeypatch.chdir(folder.parent)
        monkeypatch.setattr(sys, "argv", ["sweep", *BASE, f"--workdir={folder}", *flags])
        capfd.readouterr()
        code = command.run("tf_cutnmix.sweep", sweep.SUMMARY, sweep.Settings, sweep.main)
        return code, *capfd.readouterr()

    return called


def wait_for(path: pathlib.Path, line: str = ".") -> None:
    """Until a file has a line like this."""
    deadline = time.monotonic() + 120
    while not path.exists() or not re.search(line, path.read_text(), re.MULTILINE):
        assert time.monotonic() < deadline, f"nothing appeared in {path}"
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


def test_values_have_the_type_of_their_setting_and_overwriting_takes_the_place_of_resuming():
    grid = ("--grid=learning_rate=.1,1e-2", "--grid=arch=a,b|c")
    configs = sweep.make_configs(settings("--overwrite", *grid))
    assert next(iter(configs)) == "learning_rate=0.1,arch=a+b"
    found = [(c.learning_rate, c.arch, c.overwrite, c.resume) for c in configs.values()]
    assert found == [(rate, arch, True, False) for rate in (0.1, 0.01) for arch in ("a,b", "c")]


def test_folds_make_a_run_for_each_part():
    configs = sweep.make_configs(settings("--folds=3", "--grid=seed=0,1"))
    assert [*configs][:2] == ["seed=0,fold=1_3", "seed=0,fold=2_3"]
    assert [config.fold for config in configs.values()] == ["1/3", "2/3", "3/3"] * 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ["--grid is missing"]),
        (["--folds=1"], ["--folds=1", "from 2 to 100"]),
        (["--grid=fold=0/5"], ["--fold=0/5", "such as 1/5"]),
        (["--grid=fold=6/5"], ["--fold=6/5"]),
        (["--grid=methd=dml"], ["'methd'", "did you mean 'method'"]),
        (["--grid=epochs=1,0"], ["--epochs=0", "from 1 to 1,000,000"]),
        (["--grid=dataset=a/b,a:b"], ["dataset=a_b", "share"]),
        (["--grid=workdir=a,b"], ["cannot vary workdir"]),
        (["--grid=save_minutes=1,2"], ["cannot vary save_minutes"]),
        (["--grid=seed=0", "--export_dir=/tmp"], ["--export_dir=/tmp", "inside the folder"]),
        (["--grid=seed=0", "--workdir="], ["--workdir is missing"]),
        (["--grid=seed=0", "--jobs=0"], ["--jobs=0", "from 1 to 9,999, or auto"]),
        (["--grid=flagfile=nowhere.cfg"], ["nowhere.cfg"]),
        ([f"--grid=dataset={'u' * 300},b"], ["a name may have 255"]),
    ],
)
def test_a_grid_that_cannot_be_used_is_refused(flags: list[str], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        sweep.make_configs(settings(*flags))
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_flagfile_in_the_grid_varies_several_settings_at_once(tmp_path: pathlib.Path) -> None:
    (tmp_path / "quick.cfg").write_text("--epochs=3\n--mix=mixup\n")
    (tmp_path / "slow.cfg").write_text("--epochs=9\n")
    grid = f"--grid=flagfile={tmp_path}/quick.cfg,{tmp_path}/slow.cfg"
    configs = sweep.make_configs(settings(grid, "--grid=seed=0,1", "--mix=none"))
    assert list(configs) == [f"flagfile={n},seed={s}" for n in ("quick", "slow") for s in (0, 1)]
    found = [(c.epochs, c.mix, c.seed) for c in configs.values()]
    assert found == [(3, "mixup", 0), (3, "mixup", 1), (9, "none", 0), (9, "none", 1)]


@pytest.mark.parametrize(
    ("flags", "threads"),
    [
        ([], 0),
        (["--jobs=2"], 2),
        (["--jobs=3"], 1),
        (["--jobs=8"], 1),
        (["--jobs=auto"], 1),
        (["--jobs=2", "--threads=0"], 0),
        (["--jobs=2", "--grid=threads=5"], 5),
    ],
)
def test_runs_of_a_new_sweep_have_their_share_of_the_threads(flags, threads, monkeypatch) -> None:
    monkeypatch.setattr(processes, "available_cores", lambda: [0, 1, 2, 3])
    (config,) = sweep.make_configs(settings("--grid=seed=0", *flags)).values()
    assert config.threads == threads


@pytest.mark.parametrize(
    ("line", "flags", "threads"),
    [
        ("--threads=3\n", ["--jobs=2"], 3),
        ("--threads=3\n", ["--jobs=2", "--overwrite"], 1),
        ("--threads=3\n", ["--threads=2"], 2),
        # A run of before there were threads to set.
        ("", ["--jobs=2"], 0),
    ],
)
def test_a_sweep_that_is_gone_on_with_keeps_its_threads(
    line, flags, threads, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(processes, "available_cores", lambda: [0, 1])
    (tmp_path / "seed=0").mkdir()
    (tmp_path / "seed=0" / "flags.cfg").write_text(f"--seed=0\n{line}")
    configs = sweep.make_configs(settings(f"--workdir={tmp_path}", "--grid=seed=0,1", *flags))
    assert [config.threads for config in configs.values()] == [threads, threads]


def test_a_damaged_flags_file_of_the_sweep_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "seed=0").mkdir()
    (tmp_path / "seed=0" / "flags.cfg").write_bytes(b"--threads=\xff\n")
    with pytest.raises(InputError, match=r"seed=0/flags.cfg is damaged: --threads="):
        sweep.make_configs(settings(f"--workdir={tmp_path}", "--grid=seed=0,1"))


@pytest.mark.parametrize(
    ("bytes_each", "threads_each", "fit"),
    [(1, 1, 4), (1, 3, 1), (1, 0, 1), (1, 8, 1), (2**60, 1, 1)],
)
def test_as_many_runs_fit_as_there_are_cores_and_memory(
    bytes_each: int, threads_each: int, fit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "available_cores", lambda: [0, 1, 2, 3])
    assert processes.runs_that_fit(bytes_each, threads_each) == fit


@pytest.mark.long
def test_a_name_that_nothing_knows_ends_the_sweep_before_its_first_run(
    tmp_path: pathlib.Path, run_here: Callable
) -> None:
    code, stdout, stderr = run_here(tmp_path / "x", "--grid=method=independent,cutnmx")
    assert (code, stdout) == (1, "")
    assert stderr == "error: unknown --method 'cutnmx': did you mean 'cutnmix'?\n"
    assert not (tmp_path / "x").exists()


def test_a_folder_that_cannot_be_made_is_one_line(
    tmp_path: pathlib.Path, run_here: Callable
) -> None:
    (tmp_path / "file").touch()
    code, stdout, stderr = run_here(tmp_path / "file", "--grid=seed=0")
    assert (code, stdout) == (1, "")
    assert re.fullmatch(r"error: --workdir=\S+ cannot be written: File exists\n", stderr)


def test_a_second_sweep_in_the_same_folder_is_refused(tmp_path, run_here) -> None:
    with files.locked(tmp_path / "x"):
        code, stdout, stderr = run_here(tmp_path / "x", "--grid=seed=0", "--overwrite")
    assert (code, stdout) == (1, "")
    assert re.fullmatch(rf"error: \S+x is being written by process {os.getpid()} on .*\n", stderr)


# Whole sweeps


def train_apart(config: Config) -> None:
    """A run in a process of its own, whose number of threads can still be set."""
    process = multiprocessing.get_context("forkserver").Process(
        target=experiment.train_and_evaluate, args=(config,)
    )
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.long
def test_a_sweep_makes_the_runs_of_train_side_by_side_and_goes_on_after_one_that_fails(
    tmp_path: pathlib.Path, run_here: Callable
) -> None:
    folder, flags = tmp_path / "x", ("--export=peer", "--grid=learning_rate=1e30,0.05,0.01")
    bad, good, last = (folder / f"learning_rate={rate}" for rate in ("1e+30", "0.05", "0.01"))
    code, stdout, stderr = run_here(folder, *flags, "--jobs=2")
    assert code == 1
    assert stderr.startswith("error: 1 of 3 runs failed")
    assert stderr.count("\n") == 1
    threads = max(1, len(processes.available_cores()) // 2)
    lines = stdout.splitlines()
    assert lines[:3] == [
        f"--threads={threads} for each run",
        f"[1/3] {bad.name}: started",
        f"[2/3] {good.name}: started",
    ]
    assert re.search(rf"^\[1/3\] {re.escape(bad.name)}: failed: step 1", stdout, re.MULTILINE)
    teacher = r"teacher \d+\.\d\d% \(\d+ (s|min)\)"
    assert re.search(rf"\[2/3\] {good.name}: {teacher}; about \d+ (s|min) left", stdout)
    assert [line.split(" ")[0] for line in lines[-2:]] == [good.name, last.name]
    assert "not finite" in (bad / "error.txt").read_text()
    assert "Traceback" not in (bad / "log.txt").read_text()
    assert "cross_entropy" in (good / "log.txt").read_text()
    assert (good / "run.html").read_text().startswith("<!DOCTYPE html>")
    assert len(list(good.glob("savedmodels/*/1/saved_model.pb"))) == 1

    alone = (*BASE, "--learning_rate=0.01", "--export=", f"--threads={threads}")
    train_apart(command.parse(Config, [*alone, f"--workdir={tmp_path}/alone"]))
    made, expected = (
        json.loads((place / "result.json").read_text()) for place in (last, tmp_path / "alone")
    )
    assert made["last"] == expected["last"]

    # Without a line in flags.cfg as a run of before that setting; one that is not done is tried.
    begun = good / "flags.cfg"
    begun.write_text(begun.read_text().replace("--share=auto\n", ""))
    before = (good / "result.json").stat().st_mtime_ns
    code, stdout, stderr = run_here(folder, flags[0], f"{flags[1]},0.02", "--jobs=auto")
    assert code == 1
    assert stdout.count("done already\n") == 2
    assert (good / "result.json").stat().st_mtime_ns == before
    assert re.search(r"^--jobs=\d+: a run takes \d\.\d GB$", stdout, re.MULTILINE)
    assert f"[1/4] {bad.name}: failed" in stdout
    assert "[4/4] learning_rate=0.02: teacher" in stdout
    new = settings_in((folder / "learning_rate=0.02" / "flags.cfg").read_text())
    assert new["threads"] == str(threads)


def cell_processes(sweep_process: int) -> list[int]:
    """The grandchildren, which train: the server's children."""
    (server,) = (
        child
        for child in psutil.Process(sweep_process).children()
        if "forkserver" in " ".join(child.cmdline())
    )
    return sorted(child.pid for child in server.children())


@pytest.mark.long
def test_an_interrupt_ends_all_runs_and_the_same_command_goes_on(
    tmp_path: pathlib.Path, run_here: Callable
) -> None:
    folder = tmp_path / "x"
    flags = ("--grid=seed=0,1", "--epochs=24", "--jobs=2")
    process = start(folder, *flags)
    for seed in (0, 1):
        wait_for(folder / f"seed={seed}" / "log.txt", "^ +1[* ] ")  # comes after metrics.jsonl
    cells = cell_processes(process.pid)
    assert len(cells) == 2
    os.killpg(process.pid, signal.SIGINT)  # Ctrl-C reaches the whole terminal
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "interrupted\n")
    assert not any(pathlib.Path(f"/proc/{cell}").exists() for cell in cells)
    assert not list(folder.glob("*/result.json"))
    assert "KeyboardInterrupt" not in (folder / "seed=0" / "log.txt").read_text()
    code, _, stderr = run_here(folder, *flags)
    assert (code, stderr) == (0, "")
    for seed in (0, 1):
        assert epochs(folder / f"seed={seed}") == list(range(1, 25))
        log = (folder / f"seed={seed}" / "log.txt").read_text().splitlines()
        assert len([line for line in log if re.match(r" +1[* ] ", line)]) == 1


@pytest.mark.long
def test_the_runs_of_a_sweep_that_is_killed_end_with_it(tmp_path: pathlib.Path) -> None:
    process = start(tmp_path / "x", "--grid=seed=0", "--epochs=1000")
    wait_for(tmp_path / "x" / "seed=0" / "metrics.jsonl")
    (cell,) = cell_processes(process.pid)
    process.kill()
    process.communicate()
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(cell).wait(timeout=20)


@pytest.mark.long
def test_a_run_whose_process_dies_and_one_with_other_settings_fail_alone(
    tmp_path: pathlib.Path,
) -> None:
    folder = tmp_path / "x"
    other = folder / "seed=1"
    other.mkdir(parents=True)
    flags = command.parse(Config, [*BASE, "--epochs=77", "--seed=1", "--export="])
    (other / "flags.cfg").write_text(flags.flagfile())
    process = start(folder, "--grid=seed=0,1,2", "--epochs=1")
    wait_for(folder / "seed=0" / "log.txt")
    (only,) = cell_processes(process.pid)
    os.kill(only, signal.SIGKILL)  # as the system's killer of processes does
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: 2 of 3 runs failed" in stderr
    reason = "signal SIGKILL, as it does where memory runs out (fewer --jobs need less)"
    assert reason in (folder / "seed=0" / "error.txt").read_text()
    assert "was begun with --epochs=77" in (other / "error.txt").read_text()
    assert "[3/3] seed=2: teacher" in stdout


@pytest.mark.slow
def test_a_run_that_hangs_is_ended_and_counts_as_failed(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "x"
    process = start(folder, "--grid=epochs=100000", "--run_minutes=0.7")
    wait_for(folder / "epochs=100000" / "metrics.jsonl")
    (cell,) = cell_processes(process.pid)
    os.kill(cell, signal.SIGSTOP)
    stdout, stderr = process.communicate(timeout=200)
    assert process.returncode == 1
    assert stderr.startswith("error: 1 of 1 runs failed")
    reason = "it took more than --run_minutes=0.7 and was ended"
    assert f"epochs=100000: failed: {reason}" in stdout
    assert (folder / "epochs=100000" / "error.txt").read_text() == f"{reason}\n"
    assert not psutil.pid_exists(cell)
