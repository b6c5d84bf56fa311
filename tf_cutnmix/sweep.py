"""Make all runs of a grid: `python -m tf_cutnmix.sweep --grid="seed=0,1,2" --workdir=DIR`."""

import dataclasses
import json
import multiprocessing
import pathlib
import re
import signal
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tf_cutnmix import command, files, grid
from tf_cutnmix.config import Config, Rule, setting
from tf_cutnmix.errors import InputError, RunError, unknown

SUMMARY = """\
Trains once for each combination of the values that --grid names, on top of the other flags,
one run after another: --grid="method=independent,cutnmix" --grid="seed=0,1,2" makes 6 runs.
Each has a folder of its own below --workdir. The same command goes on where a sweep stopped:
runs that are done are left alone, one that was interrupted is resumed, one that failed is
tried again."""

_INSIDE = Rule(
    lambda path: not pathlib.PurePath(path).is_absolute() and ".." not in path.split("/"),
    "a path inside the folder of a run",
)
_NOT_VARIED = ("workdir", "resume", "overwrite", "export_dir")
_PLACES = ("workdir", "export_dir", "data_dir")


@dataclasses.dataclass(frozen=True)
class Settings(Config):
    """The settings of a sweep: those that its runs share, and the grid.

    Raises:
      InputError: a setting is missing or outside its range.
    """

    workdir: str = setting("", "run", "folder of the sweep; each run has one below it")
    export_dir: str = setting(
        "savedmodels", "run", "where in the folder of a run its exports go", rule=_INSIDE
    )
    export: str = setting(
        "", "run", "what each run exports, a comma list of teacher, peer and ensemble"
    )
    resume: bool = setting(False, "run", "needless here: a sweep goes on with what it finds")
    overwrite: bool = setting(False, "run", "make all runs anew")
    grid: tuple[str, ...] = setting(
        (),
        "grid",
        "a setting and its values: seed=0,1,2; values that hold commas are separated by '|': "
        "arch=resnet8,resnet14|resnet20",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.workdir:
            raise InputError("--workdir is missing: name the folder of the sweep")
        if not self.grid:
            raise InputError('--grid is missing: name what to vary, such as --grid="seed=0,1,2"')


def main(settings: Settings) -> None:
    """Make the runs of the grid that are not done yet, and print a table of all.

    Raises:
      InputError: the grid cannot be used; no run was begun.
      RunError: a run failed, and the rest are done.
    """
    configs = make_configs(settings)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tf_cutnmix.cell"])
    _check_names(context, list(configs.values()))
    _make_folder(pathlib.Path(settings.workdir))
    done = [name for name, config in configs.items() if not config.overwrite and is_done(config)]
    to_do = [name for name in configs if name not in done]
    seconds: list[float] = []
    failed = []
    for number, (name, config) in enumerate(configs.items(), start=1):
        head = f"[{number:>{len(str(len(configs)))}}/{len(configs)}] {name}:"
        if name in done:
            print(f"{head} done already", flush=True)
            continue
        print(f"{head} started", flush=True)
        begin = time.perf_counter()
        reason = _run(context, config)
        if reason:
            failed.append(name)
            news = f"failed: {reason}"
        else:
            seconds.append(time.perf_counter() - begin)
            teacher = accuracies(_read_result(config))["teacher"]
            news = f"teacher {teacher:.2%} ({grid.duration(seconds[-1])})"
        left = grid.seconds_left(seconds, len(to_do) - to_do.index(name) - 1)
        print(
            f"{head} {news}" + (f"; about {grid.duration(left)} left" if left else ""), flush=True
        )
    print(table({n: _read_result(c) for n, c in configs.items() if n not in failed}))
    if failed:
        raise RunError(
            f"{len(failed)} of {len(configs)} runs failed, see error.txt and log.txt in "
            f"{settings.workdir}/{failed[0]}; the same command tries again"
        )


def make_configs(settings: Settings) -> dict[str, Config]:
    """The settings of every run, by the names of their folders.

    Raises:
      InputError: a setting is unknown, cannot be varied or has a value that it cannot take, or
        two runs would share a folder.
    """
    shared = {f.name: getattr(settings, f.name) for f in dataclasses.fields(Config)}
    values = grid.parse(settings.grid)
    for name in values:
        if name not in shared:
            raise unknown("setting in --grid", name, shared)
        if name in _NOT_VARIED:
            raise InputError(f"--grid cannot vary {name}: it does not change what a run learns")
    flags = Config(**shared).flagfile().strip("\n").split("\n")
    configs: dict[str, Config] = {}
    for cell in grid.cells(values):
        config = command.parse(Config, [*flags, *(f"--{k}={v}" for k, v in cell.items())])
        name = grid.folder_name({key: getattr(config, key) for key in cell})
        if name in configs:
            raise InputError(f"--grid: two runs would share the folder {name}: tell them apart")
        folder = pathlib.PurePath(settings.workdir) / name
        configs[name] = dataclasses.replace(
            config,
            workdir=str(folder),
            export_dir=str(folder / settings.export_dir),
            resume=not settings.overwrite,
            overwrite=settings.overwrite,
        )
    return configs


def is_done(config: Config) -> bool:
    """Whether the run's folder holds its result, made with the same settings."""
    flags = pathlib.Path(config.workdir) / "flags.cfg"
    if not (flags.exists() and _read_result(config)):
        return False
    return _without_places(flags.read_text()) == _without_places(config.flagfile())


def accuracies(result: Mapping[str, Any]) -> dict[str, float]:
    """From `result.json`: test accuracies, 0 to 1, after the epoch that validation chose."""
    test = result["best_on_validation"]["test"]
    peers = [value for name, value in test.items() if re.fullmatch(r"peer\d+_accuracy", name)]
    return {
        "teacher": test["teacher_accuracy"],
        "ensemble": test["ensemble_accuracy"],
        "mean peer": statistics.mean(peers),
    }


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for each run with its test accuracies."""
    width = max(map(len, results), default=0)
    lines = ["", f"{'test accuracy':<{width}}{'teacher':>11}{'ensemble':>11}{'mean peer':>11}"]
    for name, result in results.items():
        figures = "".join(f"{value:>11.2%}" for value in accuracies(result).values())
        lines.append(f"{name:<{width}}{figures}")
    return "\n".join(lines)


def _in_cell(function: str, *arguments: Any) -> None:
    """Call a function of `cell`, whose import takes TensorFlow's seconds."""
    from tf_cutnmix import cell

    getattr(cell, function)(*arguments)


def _check_names(context: Any, configs: Sequence[Config]) -> None:
    """Raise `InputError` for a name in the grid that nothing knows."""
    receiver, sender = context.Pipe(duplex=False)
    # The first process starts the server that imports TensorFlow, and stderr with it.
    with command.quiet_tensorflow(find_devices=False):
        code = _finish(context.Process(target=_in_cell, args=("check_names", configs, sender)))
        if code:
            raise RunError("the names in the grid could not be checked")
    message = receiver.recv()
    if message:
        raise InputError(message)


def _run(context: Any, config: Config) -> str:
    """Make a run in a process of its own; why it failed, in one line, or ""."""
    folder = pathlib.Path(config.workdir)
    _make_folder(folder)
    error = folder / "error.txt"
    error.unlink(missing_ok=True)
    code = _finish(context.Process(target=_in_cell, args=("run", config)))
    if code and not error.exists():
        end = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        reason = f"the process ended with {end}, see {folder / 'log.txt'}\n"
        files.write(error, reason.encode())
    return error.read_text().splitlines()[-1] if code else ""


def _finish(process: multiprocessing.process.BaseProcess) -> int:
    """Start a process and wait for it; its exit code, negative if a signal ended it."""
    # Ctrl-C reaches every process of a terminal, and these leave it to the sweep.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.start()
    signal.signal(signal.SIGINT, before)
    try:
        process.join()
    finally:
        process.terminate()
        process.join()
    return process.exitcode


def _make_folder(folder: pathlib.Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--workdir={folder} cannot be written: {error.strerror}") from error


def _read_result(config: Config) -> dict[str, Any] | None:
    """The content of `result.json`, unless there is none or it is damaged."""
    try:
        return json.loads((pathlib.Path(config.workdir) / "result.json").read_text())
    except (OSError, ValueError):
        return None


def _without_places(flagfile: str) -> set[str]:
    lines = flagfile.split("\n")
    return {line for line in lines if line.removeprefix("--").split("=")[0] not in _PLACES}


if __name__ == "__main__":
    sys.exit(command.run("tf_cutnmix.sweep", SUMMARY, Settings, main))
