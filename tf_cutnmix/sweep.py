"""Make all runs of a grid: `python -m tf_cutnmix.sweep --grid="seed=0,1,2" --workdir=DIR`."""

import dataclasses
import pathlib
import sys

from tf_cutnmix import command, files
from tf_cutnmix.errors import InputError, RunError, unknown
from tf_cutnmix.runs.config import METHODS, Config, meaningless, settings_in
from tf_cutnmix.settings import NOT_NEGATIVE, Role, Rule, names_of, setting
from tf_cutnmix.sweeps import grid, processes, progress, results

SUMMARY = """\
Trains once for each combination of the values that --grid names, on top of the other flags:
--grid="method=independent,cutnmix" --grid="seed=0,1,2" makes 6 runs, one after another or
--jobs at once. Each has a folder of its own below --workdir. The same command goes on where a
sweep stopped: runs that are done are left alone, one that was interrupted is resumed, one that
failed is tried again.

  python -m tf_cutnmix.sweep --grid="method=cutnmix,dml" --grid="seed=0,1,2" --workdir=sweeps/two"""

_INSIDE = Rule(
    lambda path: not pathlib.PurePath(path).is_absolute() and ".." not in path.split("/"),
    "a path inside the folder of a run",
)
_JOBS = Rule(
    lambda jobs: jobs == "auto" or (jobs.isdecimal() and len(jobs) <= 4 and int(jobs) >= 1),
    "a whole number from 1 to 9,999, or auto",
)
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
        "its share of the cores, and in a sweep that is gone on with what it has",
        rule=NOT_NEGATIVE,
    )
    resume: bool = setting(False, "run", "needless here: a sweep goes on with what it finds")
    overwrite: bool = setting(False, "run", "make all runs anew")
    grid: tuple[str, ...] = setting(
        (),
        "grid",
        "a setting and its values: seed=0,1,2; values that hold commas are separated by '|': "
        "arch=resnet8,resnet14|resnet20; flagfile=one.cfg,other.cfg varies several at once; "
        "method=all: every method",
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
        if not self.grid:
            raise InputError('--grid is missing: name what to vary, such as --grid="seed=0,1,2"')


def main(settings: Settings) -> None:
    """Make the runs of the grid that are not done yet, and print a table of all.

    Raises:
      InputError: the grid cannot be used; no run was begun.
      RunError: a run failed, and the rest are done.
    """
    with files.locked(pathlib.Path(settings.workdir)):
        _main(settings)


def _main(settings: Settings) -> None:
    configs = make_configs(settings)
    measured = settings.jobs != "auto"
    at_once = int(settings.jobs) if measured else 1
    with processes.Runs(at_once, settings.run_minutes) as runs:
        # Its first process starts the server that imports TensorFlow, and stderr with it.
        with command.quiet_tensorflow(find_devices=False):
            unknown_name = runs.check_names(list(configs.values()))
        if unknown_name:
            raise InputError(unknown_name)
        sweep = progress.Progress(configs, runs)
        threads = max(config.threads for config in configs.values())
        if settings.threads is None and (settings.jobs != "1" or threads):
            print(f"--threads={threads} for each run", flush=True)
        for name, config in configs.items():
            while len(runs) == runs.at_once:
                sweep.wait()
            if not measured and (needed := sweep.memory_of_one()):
                runs.at_once, measured = processes.that_fit(needed, threads), True
                print(f"--jobs={runs.at_once}: a run takes {needed / 1e9:.1f} GB", flush=True)
            sweep.start(name, config)
        while len(runs):
            sweep.wait()
    failed = sweep.failed
    print(results.table({n: results.read(c) for n, c in configs.items() if n not in failed}))
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
    for cell in grid.cells(values):
        config = command.parse(Config, [*flags, *(f"--{k}={v}" for k, v in cell.items())])
        name = grid.folder_name(
            {
                key: pathlib.PurePath(value).stem if key == _FLAGFILE else getattr(config, key)
                for key, value in cell.items()
            }
        )
        if name in configs:
            raise InputError(f"--grid: two runs would share the folder {name}: tell them apart")
        for shared_by_others in meaningless(config).keys() - cell.keys():
            default = getattr(Config, shared_by_others)
            config = dataclasses.replace(config, **{shared_by_others: default})
        folder = pathlib.PurePath(settings.workdir) / name
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
