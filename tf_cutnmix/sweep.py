"""Make all runs of a grid: `python -m tf_cutnmix.sweep --grid="seed=0,1,2" --workdir=DIR`."""

import dataclasses
import itertools
import math
import pathlib
import statistics
import sys

from tf_cutnmix import command, files, places
from tf_cutnmix.errors import InputError, RunError, unknown
from tf_cutnmix.runs.config import METHODS, Config, meaningless, settings_in
from tf_cutnmix.runs.outlook import duration
from tf_cutnmix.settings import NOT_NEGATIVE, Role, Rule, names_of, setting
from tf_cutnmix.sweeps import grid, processes

SUMMARY = """\
Trains once for each combination of the values that --grid names, on top of the other flags:
--grid="method=independent,cutnmix" --grid="seed=0,1,2" makes 6 runs, one after another or
--jobs at once. Each has a folder of its own below --workdir. The same command continues where a
sweep stopped: finished runs are skipped, one that was interrupted is resumed, one that failed is
tried again.

  python -m tf_cutnmix.sweep --grid="method=cutnmix,dml" --grid="seed=0,1,2" --workdir=sweeps/two"""

_INSIDE = Rule(
    lambda path: not pathlib.PurePath(path).is_absolute() and ".." not in path.split("/"),
    "a path inside the folder of a run",
)
_JOBS = Rule(
    lambda jobs: jobs == "auto" or (jobs.isdecimal() and len(jobs) <= 4 and int(jobs) >= 1),
    "a whole number from 1 to 9,999, or auto",
)
_FOLDS = Rule(lambda folds: folds == 0 or 2 <= folds <= 100, "0, or from 2 to 100")
_NOT_VARIED = names_of(Config, Role.PLACE, Role.KEPT, Role.EARLIER_RUN)
_FLAGFILE = "flagfile"


@dataclasses.dataclass(frozen=True)
class Settings(Config):
    """The settings of a sweep: those that its runs share, and the grid.

    Raises:
      InputError: a setting is missing or outside its range.
    """

    workdir: str = setting(
        "", "run", "folder of the sweep, which must be named; each run has one below it"
    )
    export_dir: str = setting(
        "savedmodels", "run", "where in the folder of a run its exports go", rule=_INSIDE
    )
    export: str = setting(
        "", "run", "what each run exports, a comma list of teacher, peer, ensemble"
    )
    # A sweep decides for its runs what is not set.
    threads: int | None = setting(  # type: ignore[assignment]
        None,
        "run",
        "threads of each run, on which its last bits depend; 0: one for each core; by default "
        "its share of the cores, or as before in a sweep that is continued",
        rule=NOT_NEGATIVE,
    )
    resume: bool = setting(False, "run", "needless here: a sweep always continues")
    overwrite: bool = setting(False, "run", "make all runs again")
    grid: tuple[str, ...] = setting(
        (),
        "grid",
        "a setting and its values: seed=0,1,2; values that hold commas are separated by '|': "
        "arch=resnet8,resnet14|resnet20; flagfile=one.cfg,other.cfg varies several at once; "
        "method=all: every method",
    )
    folds: int = setting(
        0,
        "grid",
        "so many runs of each, every one tested on another part of the images (--fold); 0: none",
        rule=_FOLDS,
    )
    jobs: str = setting(
        "1",
        "grid",
        "runs at once, each on its share of the cores; auto: as many runs of one thread as cores "
        "and memory have room for, once the first has shown what it needs",
        rule=_JOBS,
    )
    run_minutes: float = setting(
        0.0,
        "grid",
        "minutes after which a run is ended and counts as failed; 0: it may take any time",
        rule=NOT_NEGATIVE,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.workdir:
            raise InputError("--workdir is missing: name the folder of the sweep")
        if not self.grid and not self.folds:
            raise InputError('--grid is missing: name what to vary, such as --grid="seed=0,1,2"')


def main(settings: Settings) -> None:
    """Make the runs of the grid that are not done yet, and print a table of all.

    Raises:
      InputError: the grid cannot be used; no run was begun.
      RunError: a run failed, and the rest are done.
    """
    with files.locked(pathlib.Path(settings.workdir)):
        configs = make_configs(settings)
        for dataset in {config.dataset: None for config in configs.values()}:
            places.check_dataset(dataset)
        with command.quiet_tensorflow(find_devices=False):
            unknown_name = processes.check_names([*configs.values()])
        if unknown_name:
            raise unknown_name
        failed = _make(configs, settings)
    done = {name: config for name, config in configs.items() if name not in failed}
    width = max(map(len, done), default=0)
    print(f"\n{'test accuracy':<{width}}{'teacher':>11}{'ensemble':>11}{'mean peer':>11}")
    for name, config in done.items():
        figures = "".join(f"{value:>11.2%}" for value in grid.accuracies(config).values())
        print(f"{name:<{width}}{figures}")
    if failed:
        raise RunError(
            f"{len(failed)} of {len(configs)} runs failed, see error.txt and log.txt in "
            f"{settings.workdir}/{failed[0]}; the same command tries again"
        )


def _make(configs: dict[str, Config], settings: Settings) -> list[str]:
    """Make the runs that are not done, with a line for each change; the names of those that failed.

    With --jobs=auto the first run, or one that is done, shows what memory a run needs.
    """
    threads = max(config.threads for config in configs.values())
    if settings.threads is None and (settings.jobs != "1" or threads):
        print(f"--threads={threads} for each run", flush=True)
    numbers = {name: number for number, name in enumerate(configs, start=1)}
    digits = len(str(len(configs)))
    failed: list[str] = []
    took: list[float] = []

    def say(name: str, news: str) -> None:
        print(f"[{numbers[name]:>{digits}}/{len(configs)}] {name}: {news}", flush=True)

    def wait() -> None:
        name, reason, seconds = runs.wait()
        if reason:
            failed.append(name)
            say(name, f"failed: {reason}")
            return
        took.append(seconds)
        teacher = grid.accuracies(configs[name])["teacher"]
        rounds = math.ceil((len(waiting) + len(runs)) / runs.at_once)
        left = f"; about {duration(rounds * statistics.mean(took))} left" if rounds else ""
        say(name, f"teacher {teacher:.2%} ({duration(seconds)}){left}")

    waiting = [n for n, config in configs.items() if config.overwrite or not grid.is_done(config)]
    for name in (name for name in configs if name not in waiting):
        say(name, "done already")
    measured = settings.jobs != "auto"
    with processes.Runs(int(settings.jobs) if measured else 1, settings.run_minutes) as runs:
        while waiting or runs:
            if len(runs) == runs.at_once or not waiting:
                wait()
                continue
            known = [grid.result(c) for n, c in configs.items() if n not in {*waiting, *failed}]
            if not measured and known:
                memory = max(result["peak_memory_bytes"] for result in known)
                runs.at_once, measured = processes.runs_that_fit(memory, threads), True
                print(f"--jobs={runs.at_once}: a run takes {memory / 1e9:.1f} GB", flush=True)
            name = waiting.pop(0)
            say(name, "started")
            runs.start(name, configs[name])
    return failed


def make_configs(settings: Settings) -> dict[str, Config]:
    """The settings of every run, by the names of their folders.

    Raises:
      InputError: a setting is unknown, cannot be varied or has a value that it cannot take, or
        two runs would share a folder.
    """
    shared = {f.name: getattr(settings, f.name) for f in dataclasses.fields(Config)}
    values = grid.parse(settings.grid)
    if settings.folds:
        values["fold"] = tuple(f"{k}/{settings.folds}" for k in range(1, settings.folds + 1))
    if values.get("method") == ("all",):
        values["method"] = METHODS
    for name in values:
        if name not in (*shared, _FLAGFILE):
            raise unknown("setting in --grid", name, shared)
        if name in _NOT_VARIED:
            raise InputError(f"--grid cannot vary {name}: it does not change what a run learns")
    if settings.threads is None:
        shared["threads"] = _threads(settings)
    flags = Config(**shared).flagfile().strip("\n").split("\n")
    configs: dict[str, Config] = {}
    for combination in itertools.product(*values.values()):
        cell = dict(zip(values, combination, strict=True))
        config = command.parse(Config, [*flags, *(f"--{k}={v}" for k, v in cell.items())])
        name = grid.folder_name(
            {
                key: pathlib.PurePath(value).stem if key == _FLAGFILE else getattr(config, key)
                for key, value in cell.items()
            }
        )
        if name in configs:
            raise InputError(f"--grid: two runs would share the folder {name}: tell them apart")
        # A setting that all share may have a meaning for the others alone.
        shared_alone = meaningless(config).keys() - cell.keys()
        config = dataclasses.replace(config, **{n: getattr(Config, n) for n in shared_alone})
        folder = pathlib.Path(settings.workdir) / name
        files.check_names(folder)
        configs[name] = dataclasses.replace(
            config,
            workdir=str(folder),
            export_dir=str(folder / settings.export_dir),
            resume=not settings.overwrite,
            overwrite=settings.overwrite,
            new_images=settings.new_images,
        )
    return configs


def _threads(settings: Settings) -> int:
    """The threads of each run unless they are set: those of runs that are there, or its share."""
    if not settings.overwrite:
        for flags in sorted(pathlib.Path(settings.workdir).glob("*/flags.cfg")):
            threads = settings_in(flags.read_text(errors="replace"))["threads"]
            if not threads.isdecimal():
                raise InputError(f"{flags} is damaged: --threads={threads[:20]!a}")
            return int(threads)
    if settings.jobs == "auto":
        return 1
    jobs = int(settings.jobs)
    return 0 if jobs == 1 else max(1, len(processes.available_cores()) // jobs)


if __name__ == "__main__":
    sys.exit(command.run("tf_cutnmix.sweep", SUMMARY, Settings, main))
