"""Runs of a study, beside other work: `python studies/study.py few_pictures run --data_dir=DIR`.

A study is a folder here: `plan.py` lists its stages, `regimes/` and `rows/` hold their flagfiles.
A stage is every regime with every row and every seed, one seed after another, so that rows can be
paired early. The same command goes on where it was stopped, also on another machine: what is in
the study's results/ is done.
"""

import argparse
import contextlib
import importlib.util
import os
import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import psutil

HERE = pathlib.Path(__file__).resolve().parent
KEPT = ("flags.cfg", "metrics.jsonl", "result.json")
PLACES = ("--workdir=", "--data_dir=", "--cache_dir=", "--export_dir=")


class Stage(NamedTuple):
    """Runs that are made together; `grid` has further settings and their values."""

    name: str
    regimes: Sequence[str]
    rows: Sequence[str]
    seeds: Sequence[int]
    grid: Mapping[str, Sequence[Any]]


class Study:
    """A study by the name of its folder, and where its runs are made."""

    def __init__(self, name: str, workdir: pathlib.Path) -> None:
        self.folder = HERE / name
        self.results = self.folder / "results"
        self.workdir = workdir
        specification = importlib.util.spec_from_file_location("plan", self.folder / "plan.py")
        if not (self.folder / "plan.py").is_file() or specification is None:
            sys.exit(f"there is no study {name} in {HERE}")
        plan = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(plan)  # type: ignore[union-attr]
        self.stages = [Stage(*stage) for stage in plan.STAGES]
        self.baseline: str = plan.BASELINE

    def chosen(self, names: str, regimes: str, rows: str, seeds: str) -> list[Stage]:
        """The stages of these names, with these in place of their own where any are given."""
        known = {stage.name: stage for stage in self.stages}
        if missing := [name for name in _split(names) if name not in known]:
            sys.exit(f"--stages: there is no {missing[0]}: {', '.join(known)}")
        stages = [known[name] for name in _split(names) or known]
        for kind, given in (("regimes", regimes), ("rows", rows), ("seeds", seeds)):
            if given:
                stages = [stage._replace(**{kind: _split(given)}) for stage in stages]
        for kind in ("regimes", "rows"):
            for name in (name for stage in stages for name in getattr(stage, kind)):
                if not (self.folder / kind / f"{name}.cfg").is_file():
                    sys.exit(f"--{kind}: there is no {name} in {self.folder / kind}")
        return stages


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("study", help="a folder beside this file, such as few_pictures")
    parser.add_argument("action", choices=["run", "collect", "pause", "continue", "report"])
    parser.add_argument("--workdir", type=pathlib.Path, help="by default runs/<study>")
    parser.add_argument("--data_dir", default="", help="where TFDS keeps its data")
    parser.add_argument("--fonts", type=pathlib.Path, help="the folder 'fonts' of the letters")
    for kind in ("stages", "regimes", "rows", "seeds"):
        parser.add_argument(f"--{kind}", default="", help="by default all of the plan")
    parser.add_argument("--jobs", default="2")
    arguments = parser.parse_args()
    workdir = (arguments.workdir or pathlib.Path("runs") / arguments.study).absolute()
    study = Study(arguments.study, workdir)
    if arguments.action == "run":
        stages = study.chosen(
            *(getattr(arguments, k) for k in ("stages", "regimes", "rows", "seeds"))
        )
        run(study, stages, arguments)
    elif arguments.action == "collect":
        collect(study)
    elif arguments.action == "report":
        report(study)
    else:
        signal_all(workdir, arguments.action)


def run(study: Study, stages: Sequence[Stage], arguments: argparse.Namespace) -> None:
    """Make the runs that are not done, stage by stage, giving way to other programs."""
    # The letters are ./fonts in flags.cfg, which then names no place.
    fonts = arguments.fonts.absolute() if arguments.fonts else None
    regimes = [regime for stage in stages for regime in stage.regimes]
    if any(map(_is_of_letters, regimes)) and not (
        fonts and fonts.name == "fonts" and fonts.is_dir()
    ):
        sys.exit("--fonts: name the folder 'fonts' of the letters, or leave them out: --regimes")
    if running(study.workdir):
        sys.exit(f"a study runs in {study.workdir}")
    study.workdir.mkdir(parents=True, exist_ok=True)
    pid = study.workdir / "study.pid"
    pid.write_text(str(os.getpid()))
    os.nice(19)
    # A sweep must not outlive the study: subprocess ends it when an exception passes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        codes = [
            sweep(study, stage, regime, fonts, arguments)
            for stage in stages
            for regime in stage.regimes
        ]
    finally:
        pid.unlink()
    if any(codes):
        sys.exit(1)


def sweep(
    study: Study,
    stage: Stage,
    regime: str,
    fonts: pathlib.Path | None,
    arguments: argparse.Namespace,
) -> int:
    """Make the runs of a stage in one regime; the exit code of the sweep."""
    bring_back(study, regime)
    rows = ",".join(str(study.folder / "rows" / f"{row}.cfg") for row in stage.rows)
    grid = {"seed": ",".join(map(str, stage.seeds)), "flagfile": rows}
    grid |= {name: ",".join(map(str, values)) for name, values in stage.grid.items()}
    command = [
        # Not what lies in the current folder, but what is installed.
        *(sys.executable, "-P", "-m", "tf_cutnmix.sweep"),
        f"--flagfile={study.folder / 'regimes' / regime}.cfg",
        *(f"--grid={name}={values}" for name, values in grid.items()),
        f"--workdir={study.workdir / regime}",
        f"--cache_dir={study.workdir / 'cache'}",
        f"--data_dir={arguments.data_dir}",
        f"--jobs={arguments.jobs}",
    ]
    # TensorFlow leaves these kernels off on processors that have no AVX-512.
    environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": "1"}
    inside = fonts.parent if fonts and _is_of_letters(regime) else None
    code = subprocess.run(command, cwd=inside, env=environment, check=False).returncode
    collect(study)
    return code


def bring_back(study: Study, regime: str) -> None:
    """Put the collected results of a regime where a sweep finds them done."""
    for cell in (study.results / regime).glob("*/"):
        if not (study.workdir / regime / cell.name / "result.json").exists():
            shutil.copytree(cell, study.workdir / regime / cell.name, dirs_exist_ok=True)


def collect(study: Study) -> None:
    """Copy finished runs into results/, without weights and without the names of places."""
    for result in sorted(study.workdir.glob("*/*/result.json")):
        run_folder = result.parent
        target = study.results / run_folder.parent.name / run_folder.name
        if target.exists():
            continue
        begun = target.with_name(f".{target.name}")
        begun.mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            (begun / name).write_text(without_places((run_folder / name).read_text()))
        begun.rename(target)
        print(f"collected {run_folder.parent.name}/{run_folder.name}", flush=True)


def without_places(content: str) -> str:
    """A file of a run without the flags that name places, which are a line each in all of them."""
    lines = content.splitlines(keepends=True)
    return "".join(line for line in lines if not line.lstrip(' "').startswith(PLACES))


def running(workdir: pathlib.Path) -> psutil.Process | None:
    """The study that runs in a folder, if one does."""
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        process = psutil.Process(int((workdir / "study.pid").read_text()))
        if any(word.endswith("study.py") for word in process.cmdline()):
            return process
    return None


def signal_all(workdir: pathlib.Path, action: str) -> None:
    """Pause the study with all of its processes, or let it continue."""
    study = running(workdir)
    if not study:
        sys.exit(f"no study runs in {workdir}")
    reached: set[psutil.Process] = set()
    # Looked for again until there is no new one: they begin others until they stand still.
    while new := {study, *study.children(recursive=True)} - reached:
        for process in new:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend() if action == "pause" else process.resume()
        reached |= new


def report(study: Study) -> None:
    """Draw a report of each regime's collected results."""
    regimes = sorted(study.results.glob("*/"))
    if not regimes:
        sys.exit(f"there are no results in {study.results}")
    for place in regimes:
        command = [sys.executable, "-P", "-m", "tf_cutnmix.report", str(place)]
        out = study.workdir / "report" / place.name
        subprocess.run([*command, f"--out={out}", f"--baseline={study.baseline}"], check=True)


def _is_of_letters(regime: str) -> bool:
    return "letters" in regime


def _split(names: str) -> list[str]:
    return [name for name in names.split(",") if name]


if __name__ == "__main__":
    main()
