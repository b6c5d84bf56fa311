"""Runs of the study, beside other work: `python studies/small_data/study.py run --data_dir=DIR`.

Every regime with every row and every seed, one seed after another, so that rows can be paired
early. The same command goes on where it was stopped, also on another machine: what is in
results/ is done.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

import psutil

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "results"
REGIMES = ("train1000", "train2500", "train5000", "letters")
ROWS = (
    "independent_cutmix",
    "dml_cutmix",
    "cutnmix_mutual",
    "cutnmix",
    "cutnmix_t1",
    "cutnmix_teacher_mutual",
    "dml_cutnmix",
    "independent_none",
    "independent_cutnmix",
    "dml_none",
)
KEPT = ("flags.cfg", "metrics.jsonl", "result.json")
PLACES = ("--workdir=", "--data_dir=", "--export_dir=")


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("action", choices=["run", "collect", "pause", "continue", "report"])
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/small_data"))
    parser.add_argument("--data_dir", default="", help="where TFDS keeps its data")
    parser.add_argument("--fonts", type=pathlib.Path, help="folder of the letters")
    parser.add_argument("--regimes", default=",".join(REGIMES))
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--jobs", default="2")
    arguments = parser.parse_args()
    workdir = arguments.workdir.absolute()
    if arguments.action == "run":
        run(workdir, arguments)
    elif arguments.action == "collect":
        collect(workdir)
    elif arguments.action == "report":
        report(workdir)
    else:
        signal_all(workdir, arguments.action)


def run(workdir: pathlib.Path, arguments: argparse.Namespace) -> None:
    """Make the runs that are not done, regime by regime, giving way to other programs."""
    regimes = arguments.regimes.split(",")
    if "letters" in regimes and not arguments.fonts:
        sys.exit("--fonts is missing: name the folder of the letters, or leave them out: --regimes")
    os.nice(19)
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "study.pid").write_text(str(os.getpid()))
    rows = ",".join(str(HERE / "rows" / f"{name}.cfg") for name in arguments.rows.split(","))
    for regime in regimes:
        bring_back(workdir / regime)
        command = [
            # Not what lies in the current folder, but what is installed.
            *(sys.executable, "-P", "-m", "tf_cutnmix.sweep"),
            f"--flagfile={HERE / 'regimes' / regime}.cfg",
            f"--grid=seed={arguments.seeds}",
            f"--grid=flagfile={rows}",
            f"--workdir={workdir / regime}",
            f"--data_dir={arguments.data_dir}",
            f"--jobs={arguments.jobs}",
        ]
        # The letters are ./fonts in flags.cfg, which then names no place.
        folder = arguments.fonts.absolute().parent if regime == "letters" else None
        # TensorFlow leaves these kernels off on processors that have no AVX-512.
        environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": "1"}
        subprocess.run(command, cwd=folder, env=environment, check=False)
        collect(workdir)


def bring_back(folder: pathlib.Path) -> None:
    """Put the collected results of a regime where a sweep finds them done."""
    for cell in (RESULTS / folder.name).glob("*/"):
        if not (folder / cell.name / "flags.cfg").exists():
            shutil.copytree(cell, folder / cell.name, dirs_exist_ok=True)


def collect(workdir: pathlib.Path) -> None:
    """Copy finished runs into results/, without weights and without the names of places."""
    for result in sorted(workdir.glob("*/*/result.json")):
        run_folder = result.parent
        target = RESULTS / run_folder.parent.name / run_folder.name
        if target.exists():
            continue
        target.mkdir(parents=True)
        for name in KEPT:
            lines = (run_folder / name).read_text().splitlines(keepends=True)
            kept = [line for line in lines if not line.startswith(PLACES)]
            (target / name).write_text("".join(kept))
        print(f"collected {run_folder.parent.name}/{run_folder.name}", flush=True)


def signal_all(workdir: pathlib.Path, action: str) -> None:
    """Pause the study with all of its processes, or let it continue."""
    try:
        parent = psutil.Process(int((workdir / "study.pid").read_text()))
    except (OSError, psutil.NoSuchProcess):
        sys.exit(f"no study runs in {workdir}")
    # A parent that stands still begins no further child.
    for process in (parent, *parent.children(recursive=True)):
        process.suspend() if action == "pause" else process.resume()


def report(workdir: pathlib.Path) -> None:
    """Draw the report of the collected results."""
    for regime in sorted(path.name for path in RESULTS.iterdir()):
        subprocess.run(
            [
                *(sys.executable, "-P", "-m", "tf_cutnmix.report", str(RESULTS / regime)),
                f"--out={workdir / 'report' / regime}",
                "--baseline=method=independent,mix=cutmix",
            ],
            check=False,
        )


if __name__ == "__main__":
    main()
