"""Runs of several processes: as one of one process, written by one of them."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

import pytest

from benchmarks import cluster
from tests.distillation.replicated import difference
from tests.runs.short_runs import SMALL, module, progress_of, run, state
from tf_cutnmix.errors import InputError
from tf_cutnmix.runs.workers import Workers, _resolver

SMOOTH = {**SMALL, "arch": "tiny_networks:smooth", "learning_rate": 0.01}


def by_tf_config(count: int) -> list[dict[str, str]]:
    return [{"TF_CONFIG": config} for config in cluster.configs(count)]


def by_slurm(count: int, nodes: str = "localhost", tasks: str = "2") -> list[dict[str, str]]:
    """As srun tells the tasks of a step."""
    common = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_NUM_TASKS": str(count),
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_STEP_TASKS_PER_NODE": tasks,
    }
    return [{**common, "SLURM_PROCID": str(number)} for number in range(count)]


def start(
    folders: list[pathlib.Path], environments: list[dict[str, str]] | None = None, **settings
) -> list[subprocess.Popen[str]]:
    """A worker in each folder, the chief in the first."""
    flags = {**SMOOTH, "workdir": "run", "distribute": "multi_worker", **settings}
    workers = []
    for folder, own in zip(folders, environments or by_tf_config(len(folders)), strict=True):
        folder.mkdir(exist_ok=True)
        workers.append(
            subprocess.Popen(
                module("train", *(f"--{name}={value}" for name, value in flags.items())),
                cwd=folder,
                env={**os.environ, **own},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return workers


def differ(one: pathlib.Path, other: pathlib.Path) -> float:
    return difference(state(one).values, state(other).values)


@pytest.mark.long
@pytest.mark.parametrize(
    "environment", [by_tf_config, pytest.param(by_slurm, marks=pytest.mark.slow)]
)
def test_two_workers_make_the_run_that_one_process_makes(environment, tmp_path):
    folders = [tmp_path / "chief", tmp_path / "other"]
    workers = start(folders, environment(2), epochs=1)
    printed = [worker.communicate(timeout=300) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], printed
    line = r"worker 1 of 2, at localhost:\d+, waits for the others\n"
    assert re.search(line, printed[1][0])
    assert printed[1][1] == ""
    assert list(folders[1].iterdir()) == []
    run(tmp_path / "alone", SMOOTH, epochs=1)
    assert differ(tmp_path / "alone", folders[0] / "run") < 1e-5
    assert (folders[0] / "run" / "result.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1], ids=["the chief", "another"])
def test_a_run_that_lost_a_worker_goes_on_with_one_alone(number, tmp_path):
    folders = [tmp_path / "chief", tmp_path / "other"]
    workers = start(folders, epochs=200, save_minutes=0.01)
    while not (folders[0] / "run" / "metrics.jsonl").exists():
        time.sleep(0.1)
    workers[number].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    _, stderr = workers[1 - number].communicate(timeout=60)
    assert time.monotonic() - killed < 30
    assert workers[1 - number].returncode == 1
    assert "another of the 2 workers has ended" in stderr.splitlines()[-1]
    assert list(folders[1].iterdir()) == []

    epoch, batch = progress_of(folders[0] / "run")
    steps = 10 + batch  # of 4 an epoch
    run(folders[0] / "run", SMOOTH, epochs=200, steps=10, resume=True)
    run(tmp_path / "alone", SMOOTH, epochs=200, steps=4 * epoch + steps)
    assert progress_of(folders[0] / "run") == progress_of(tmp_path / "alone")
    assert differ(tmp_path / "alone", folders[0] / "run") < 1e-5


@pytest.mark.parametrize(
    "environment",
    [
        "worker 0",
        "[]",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
    ],
)
def test_what_is_no_cluster_is_refused_with_an_example(environment, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", environment)
    with pytest.raises(InputError, match=r'in TF_CONFIG, such as \{"cluster".*Received: TF_CONFIG'):
        Workers("multi_worker")


def test_one_device_is_not_several():
    with pytest.raises(InputError, match=r"is for several devices and finds .*CPU:0 alone"):
        Workers("mirrored")


@pytest.mark.parametrize("number", [0, 3])
def test_slurm_says_who_the_workers_are_with_and_without_gpus(number, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name, value in by_slurm(4, "gpu[07-08],login", "2,1(x2)")[number].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SLURM_JOB_ID", "4711017")
    found = _resolver()
    hosts = ["gpu07:21017", "gpu07:21018", "gpu08:21017", "login:21017"]
    assert found.cluster_spec().as_dict() == {"worker": hosts}
    assert (found.task_type, found.task_id) == ("worker", number)
    assert found.num_accelerators() == {"GPU": 0}


def test_a_command_that_slurm_did_not_start_is_refused(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name, value in by_slurm(2)[0].items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_STEP_NODELIST")
    with pytest.raises(InputError, match=r"NODELIST not found.* Start the command with srun"):
        Workers("multi_worker")


@pytest.mark.long
def test_a_port_that_another_program_has_is_one_line(tmp_path):
    first, _ = by_tf_config(2)
    port = json.loads(first["TF_CONFIG"])["cluster"]["worker"][0].rpartition(":")[2]
    with socket.create_server(("localhost", int(port))):
        (worker,) = start([tmp_path / "chief"], [first])
        _, stderr = worker.communicate(timeout=100)
    assert worker.returncode == 1
    assert re.fullmatch(r"error: worker 0 cannot listen at localhost:\d+: .* port: .*\n", stderr)
