"""Sweeps: the grid is checked first, every run is a process, and a sweep goes on where it was."""

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


def run(folder: pathlib.Path, *flags: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a whole sweep."""
    process = start(folder, *flags)
    stdout, stderr = process.communicate(timeout=300)
    return process.returncode, stdout, stderr


@pytest.fixture
def run_here(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """As `run`, in this process, whose sweeps share the server that imports TensorFlow."""

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
        (["--grid=epochs=1,0"], ["--epochs=0", "from 1 to 1,000,000"]),
        (["--grid=schedule=step,stop"], ["schedule", "stop"]),
        (["--grid=seed="], ["--grid=seed="]),
        (["--grid=seed=0", "--grid=seed=1"], ["seed twice"]),
        (["--grid=learning_rate=.1,0.1"], ["learning_rate=0.1", "share"]),
        (["--grid=dataset=a/b,a:b"], ["dataset=a_b", "share"]),
        (["--grid=workdir=a,b"], ["cannot vary workdir"]),
        (["--grid=resume=true,false"], ["cannot vary resume"]),
        (["--grid=overwrite=true,false"], ["cannot vary overwrite"]),
        (["--grid=export_dir=a,b"], ["cannot vary export_dir"]),
        (["--grid=save_minutes=1,2"], ["cannot vary save_minutes"]),
        (["--grid=seed=0", "--run_minutes=-1"], ["--run_minutes=-1", "0 or more"]),
        (["--grid=seed=0", "--export_dir=/tmp"], ["--export_dir=/tmp", "inside the folder"]),
        (["--grid=seed=0", "--export_dir=../x"], ["--export_dir=../x", "inside the folder"]),
        (["--grid=seed=0", "--workdir="], ["--workdir is missing"]),
        (["--grid=seed=0", "--jobs=0"], ["--jobs=0", "from 1 to 9,999, or auto"]),
        (["--grid=seed=0", "--jobs=-2"], ["--jobs=-2", "from 1 to 9,999, or auto"]),
        (["--grid=seed=0", "--jobs=all"], ["--jobs=all", "from 1 to 9,999, or auto"]),
        (["--grid=seed=0", "--threads=-1"], ["--threads=-1", "0 or more"]),
        (["--grid=flagfile=nowhere.cfg"], ["nowhere.cfg"]),
        (["--grid=flagfile=a/x.cfg,b/x.cfg"], ["a/x.cfg"]),
    ],
)
def test_a_grid_that_cannot_be_used_is_refused(flags: list[str], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        sweep.make_configs(settings(*flags))
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


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


@pytest.mark.parametrize("how", [(), ("--overwrite",)])
def test_a_second_sweep_in_the_same_folder_is_refused(
    how: tuple[str, ...], tmp_path: pathlib.Path, run_here: Callable
) -> None:
    with files.locked(tmp_path / "x"):
        code, stdout, stderr = run_here(tmp_path / "x", "--grid=seed=0", *how)
    assert (code, stdout) == (1, "")
    assert re.fullmatch(rf"error: \S+x is being written by process {os.getpid()} on .*\n", stderr)


# Whole sweeps


@pytest.mark.long
def test_a_failed_run_does_not_end_the_sweep_and_the_rest_is_not_repeated(
    tmp_path: pathlib.Path, run_here: Callable
) -> None:
    folder = tmp_path / "x"
    grid = "--grid=learning_rate=0.05,1e30,0.01"
    good, bad = folder / "learning_rate=0.05", folder / "learning_rate=1e+30"
    code, stdout, stderr = run_here(folder, grid)
    assert code == 1
    assert stderr.startswith("error: 1 of 3 runs failed")
    assert stderr.count("\n") == 1
    lines = stdout.splitlines()
    assert lines[0] == "[1/3] learning_rate=0.05: started"
    assert re.fullmatch(
        r"\[1/3\] learning_rate=0.05: teacher \d+\.\d\d% \(\d+ (s|min)\); about \d+ (s|min) left",
        lines[1],
    )
    assert "[2/3] learning_rate=1e+30: failed: step 1" in lines[3]
    assert re.fullmatch(r"\[3/3\] learning_rate=0.01: teacher \d+\.\d\d% \(\d+ (s|min)\)", lines[5])
    assert [line.split(" ")[0] for line in lines[8:]] == [
        "learning_rate=0.05",
        "learning_rate=0.01",
    ]
    assert "not finite" in (bad / "error.txt").read_text()
    assert "Traceback" not in (bad / "error.txt").read_text()
    assert "cross_entropy" in (good / "log.txt").read_text()
    assert (good / "run.html").read_text().startswith("<!DOCTYPE html>")

    before = (good / "result.json").stat().st_mtime_ns
    code, stdout, stderr = run_here(folder, grid)
    assert code == 1
    assert "[1/3] learning_rate=0.05: done already\n" in stdout
    assert "[2/3] learning_rate=1e+30: failed" in stdout
    assert "[3/3] learning_rate=0.01: done already\n" in stdout
    assert (good / "result.json").stat().st_mtime_ns == before


@pytest.mark.long
def test_a_run_of_a_sweep_is_the_run_that_train_makes(
    tmp_path: pathlib.Path, run_here: Callable
) -> None:
    folder = tmp_path / "x" / "seed=3"
    assert run_here(tmp_path / "x", "--grid=seed=3", "--export=peer")[0] == 0
    assert len(list(folder.glob("savedmodels/*/1/saved_model.pb"))) == 1
    alone = command.parse(Config, [*BASE, "--seed=3", "--export=", f"--workdir={tmp_path}/alone"])
    result = experiment.train_and_evaluate(alone)
    made = json.loads((folder / "result.json").read_text())
    assert made["last"] == result["last"]


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_is_ended_goes_on_where_it_stopped(
    number: signal.Signals, tmp_path: pathlib.Path, run_here: Callable
) -> None:
    folder = tmp_path / "x"
    flags = ("--grid=seed=0", "--epochs=16", "--grid=alpha=1.0")
    process = start(folder, *flags)
    cell = folder / "seed=0,alpha=1.0"
    wait_for(cell / "log.txt", "^ +1[* ] ")  # which comes after metrics.jsonl
    # Ctrl-C reaches the whole terminal, a kill the sweep alone.
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert (process.returncode, stderr) == (130, "interrupted\n")
    done = len(epochs(cell))
    assert 1 <= done < 16
    time.sleep(1.0)
    assert len(epochs(cell)) <= done + 1
    assert not (cell / "result.json").exists()
    assert "KeyboardInterrupt" not in (cell / "log.txt").read_text()

    code, stdout, stderr = run_here(folder, *flags)
    assert (code, stderr) == (0, "")
    assert "[1/1] seed=0,alpha=1.0: teacher" in stdout
    assert epochs(cell) == list(range(1, 17))
    log = (cell / "log.txt").read_text().splitlines()
    assert len([line for line in log if re.match(r" +1[* ] ", line)]) == 1


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
    os.kill(only, signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: 2 of 3 runs failed" in stderr
    assert "signal SIGKILL" in (folder / "seed=0" / "error.txt").read_text()
    assert "was begun with --epochs=77" in (other / "error.txt").read_text()
    assert "[3/3] seed=2: teacher" in stdout


def cell_processes(sweep_process: int) -> list[int]:
    """The grandchildren, which train: the server's children."""
    children: dict[int, list[int]] = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    return [cell for child in children[sweep_process] for cell in children.get(child, [])]


@pytest.mark.long
def test_a_method_that_cannot_take_the_peers_is_recorded_and_the_rest_goes_on(tmp_path, run_here):
    code, stdout, stderr = run_here(tmp_path / "sweep", "--grid=method=okddip,independent")
    assert code == 1
    reason = "--method=okddip needs 3 peers or more and has 1: pass --num_peers=3"
    assert f"[1/2] method=okddip: failed: {reason}" in stdout
    assert (tmp_path / "sweep" / "method=okddip" / "error.txt").read_text() == f"{reason}\n"
    assert (tmp_path / "sweep" / "method=independent" / "result.json").exists()
    assert stderr.startswith("error: 1 of 2 runs failed")


# Runs side by side


def threads_of(folder: pathlib.Path) -> str:
    return settings_in((folder / "flags.cfg").read_text())["threads"]


def test_a_flagfile_in_the_grid_varies_several_settings_at_once(tmp_path: pathlib.Path) -> None:
    (tmp_path / "quick.cfg").write_text("--epochs=3\n--mix=mixup\n")
    (tmp_path / "slow.cfg").write_text("--epochs=9\n")
    grid = f"--grid=flagfile={tmp_path}/quick.cfg,{tmp_path}/slow.cfg"
    configs = sweep.make_configs(settings(grid, "--grid=seed=0,1", "--mix=none"))
    assert list(configs) == [f"flagfile={n},seed={s}" for n in ("quick", "slow") for s in (0, 1)]
    found = [(c.epochs, c.mix, c.seed) for c in configs.values()]
    assert found == [(3, "mixup", 0), (3, "mixup", 1), (9, "none", 0), (9, "none", 1)]


def test_two_flagfiles_of_one_name_are_told_apart_by_the_user(tmp_path: pathlib.Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.cfg").write_text("--epochs=3\n")
    with pytest.raises(InputError, match="two runs would share the folder flagfile=x"):
        sweep.make_configs(settings(f"--grid=flagfile={tmp_path}/a/x.cfg,{tmp_path}/b/x.cfg"))


@pytest.mark.parametrize(
    ("flags", "cores", "threads"),
    [
        ([], 4, 0),
        (["--jobs=1"], 4, 0),
        (["--jobs=2"], 4, 2),
        (["--jobs=3"], 4, 1),
        (["--jobs=8"], 4, 1),
        (["--jobs=auto"], 4, 1),
        (["--jobs=2", "--threads=3"], 4, 3),
        (["--jobs=2", "--threads=0"], 4, 0),
        (["--jobs=2", "--grid=threads=5"], 4, 5),
    ],
)
def test_runs_of_a_new_sweep_have_their_share_of_the_threads(
    flags: list[str], cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "available_cores", lambda: list(range(cores)))
    (config,) = sweep.make_configs(settings("--grid=seed=0", *flags)).values()
    assert config.threads == threads


@pytest.mark.parametrize(
    ("line", "flags", "threads"),
    [
        ("--threads=3\n", ["--jobs=2"], 3),
        ("--threads=3\n", [], 3),
        ("--threads=3\n", ["--jobs=2", "--overwrite"], 1),
        ("--threads=3\n", ["--threads=2"], 2),
        # A run of before there were threads to set.
        ("", ["--jobs=2"], 0),
    ],
)
def test_a_sweep_that_is_gone_on_with_keeps_its_threads(
    line: str,
    flags: list[str],
    threads: int,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "available_cores", lambda: [0, 1])
    (tmp_path / "seed=0").mkdir()
    (tmp_path / "seed=0" / "flags.cfg").write_text(f"--seed=0\n{line}")
    configs = sweep.make_configs(settings(f"--workdir={tmp_path}", "--grid=seed=0,1", *flags))
    assert [config.threads for config in configs.values()] == [threads, threads]


@pytest.mark.parametrize(
    ("bytes_each", "threads_each", "fit"),
    [(1, 1, 4), (1, 2, 2), (1, 3, 1), (1, 0, 1), (1, 8, 1), (2**60, 1, 1)],
)
def test_as_many_runs_fit_as_there_are_cores_and_memory(
    bytes_each: int, threads_each: int, fit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "available_cores", lambda: [0, 1, 2, 3])
    assert processes.that_fit(bytes_each, threads_each) == fit


@pytest.mark.parametrize("content", [b"--threads=\n", b"--threads=two\n", b"--threads=\xff\n"])
def test_a_damaged_flags_file_of_the_sweep_is_named(content: bytes, tmp_path: pathlib.Path) -> None:
    (tmp_path / "seed=0").mkdir()
    (tmp_path / "seed=0" / "flags.cfg").write_bytes(content)
    with pytest.raises(InputError, match=r"seed=0/flags.cfg is damaged: --threads="):
        sweep.make_configs(settings(f"--workdir={tmp_path}", "--grid=seed=0,1"))


def test_a_flagfile_that_is_no_text_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x.cfg").write_bytes(b"--seed=\xff\xfe\n")
    with pytest.raises(InputError, match="decode"):
        sweep.make_configs(settings(f"--grid=flagfile={tmp_path}/x.cfg"))


def train_apart(config: Config) -> None:
    """A run in a process of its own, whose number of threads can still be set."""
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=experiment.train_and_evaluate, args=(config,))
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.long
def test_two_runs_at_once_are_the_runs_that_train_makes(
    tmp_path: pathlib.Path, run_here: Callable
) -> None:
    folder = tmp_path / "x"
    code, stdout, stderr = run_here(folder, "--grid=seed=3,4,5", "--jobs=2", "--epochs=4")
    assert (code, stderr) == (0, "")
    threads = max(1, len(processes.available_cores()) // 2)
    lines = stdout.splitlines()
    assert lines[:3] == [
        f"--threads={threads} for each run",
        "[1/3] seed=3: started",
        "[2/3] seed=4: started",
    ]
    assert re.fullmatch(r"\[[12]/3\] seed=[34]: teacher .*; about \d+ (s|min) left", lines[3])
    assert lines[4] == "[3/3] seed=5: started"
    assert threads_of(folder / "seed=5") == str(threads)

    alone = (*BASE, "--epochs=4", "--seed=4", "--export=", f"--threads={threads}")
    train_apart(command.parse(Config, [*alone, f"--workdir={tmp_path}/alone"]))
    results = [folder / "seed=4" / "result.json", tmp_path / "alone" / "result.json"]
    made, expected = (json.loads(path.read_text())["last"] for path in results)
    assert made == expected

    # Gone on with by other --jobs; a line is missing as in a run of before threads could be set.
    (folder / "seed=3" / "flags.cfg").write_text(
        (folder / "seed=3" / "flags.cfg").read_text().replace("--share=auto\n", "")
    )
    code, stdout, _ = run_here(folder, "--grid=seed=3,4,5,6", "--epochs=4")
    assert code == 0
    assert stdout.count("done already") == 3
    assert threads_of(folder / "seed=6") == str(threads)


@pytest.mark.slow
def test_one_of_two_runs_dies_for_want_of_memory_and_the_other_goes_on(
    tmp_path: pathlib.Path,
) -> None:
    folder = tmp_path / "x"
    process = start(folder, "--grid=seed=0,1", "--epochs=8", "--jobs=2")
    for seed in (0, 1):
        wait_for(folder / f"seed={seed}" / "flags.cfg")
    # The system's killer of processes sends this signal.
    os.kill(min(cell_processes(process.pid)), signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert stderr.startswith("error: 1 of 2 runs failed")
    (reason,) = [line for line in stdout.splitlines() if "failed:" in line]
    assert "SIGKILL, as it does where memory runs out (fewer --jobs need less)" in reason
    assert len(list(folder.glob("*/result.json"))) == 1
    code, stdout, _ = run(folder, "--grid=seed=0,1", "--epochs=8", "--jobs=2")
    assert code == 0
    assert stdout.count("done already") == 1
    assert not list(folder.glob("*/error.txt"))


@pytest.mark.slow
def test_a_run_that_hangs_is_ended_and_counts_as_failed(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "x"
    process = start(folder, "--grid=epochs=2,100000", "--jobs=2", "--run_minutes=2")
    wait_for(folder / "epochs=2" / "result.json")
    wait_for(folder / "epochs=100000" / "metrics.jsonl")
    while len(cells := cell_processes(process.pid)) > 1:
        time.sleep(0.1)
    os.kill(cells[0], signal.SIGSTOP)
    stdout, stderr = process.communicate(timeout=400)
    assert process.returncode == 1
    assert stderr.startswith("error: 1 of 2 runs failed")
    reason = "it took more than --run_minutes=2 and was ended"
    assert f"epochs=100000: failed: {reason}" in stdout
    assert (folder / "epochs=100000" / "error.txt").read_text() == f"{reason}\n"
    assert not pathlib.Path(f"/proc/{cells[0]}").exists()


@pytest.mark.long
def test_an_interrupt_ends_all_runs_and_the_same_command_goes_on(
    tmp_path: pathlib.Path, run_here: Callable
) -> None:
    folder = tmp_path / "x"
    flags = ("--grid=seed=0,1", "--epochs=24", "--jobs=2")
    process = start(folder, *flags)
    for seed in (0, 1):
        wait_for(folder / f"seed={seed}" / "metrics.jsonl")
    cells = cell_processes(process.pid)
    assert len(cells) == 2
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "interrupted\n")
    assert not any(pathlib.Path(f"/proc/{cell}").exists() for cell in cells)
    assert not list(folder.glob("*/result.json"))
    code, _, stderr = run_here(folder, *flags)
    assert (code, stderr) == (0, "")
    for seed in (0, 1):
        assert epochs(folder / f"seed={seed}") == list(range(1, 25))
        log = (folder / f"seed={seed}" / "log.txt").read_text().splitlines()
        assert len([line for line in log if re.match(r" +1[* ] ", line)]) == 1


@pytest.mark.long
def test_the_first_run_shows_how_many_fit(tmp_path: pathlib.Path, run_here: Callable) -> None:
    code, stdout, stderr = run_here(tmp_path / "x", "--grid=seed=0,1,2", "--jobs=auto")
    assert (code, stderr) == (0, "")
    lines = stdout.splitlines()
    assert lines[0] == "--threads=1 for each run"
    assert "[1/3] seed=0: teacher" in lines[2]
    assert re.fullmatch(r"--jobs=\d+: a run takes \d\.\d GB", lines[3])
    assert threads_of(tmp_path / "x" / "seed=2") == "1"
