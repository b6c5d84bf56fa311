"""Runs of the study, beside other work: `python studies/small_data/study.py run --data_dir=DIR`.

Every regime with every row and every seed, one seed after another, so that rows can be paired
early. The same command goes on where it was stopped, also on another machine: what is in
results/ is done.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import psutil

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "results"
REGIMES = ("train1000", "train2500", "train5000", "letters", "digits", "train1000_long")
ROWS = (
    "independent_cutmix",
    "dml_cutmix",
    "cutnmix_mutual",
    "cutnmix_former",
    "cutnmix_t1",
    "cutnmix_teacher_mutual",
    "dml_cutnmix",
    "independent_none",
    "independent_cutnmix",
    "dml_none",
    # The second wave: parts of cutnmix that can be switched, those first that lead so far.
    "cutnmix_both_ramped",
    "cutnmix_both_feature01",
    "cutnmix_mutual_feature03",
    "cutnmix_mutual_half",
    "cutnmix_mutual_until",
    "cutnmix_others",
    "cutnmix_others_clean",
    "cutnmix_mutual_pull",
    "cutnmix_clean",
    "cutnmix_standardised",
    "cutnmix_peers",
    "cutnmix_mutual_standardised",
    "cutnmix_others_t3",
    "independent_cutmix_half",
    "independent_cutmix_until",
    # The third: what could come of them, and other methods.
    "cutnmix_both_lighter",
    "cutnmix_mostly_mutual",
    "cutnmix_feature01",
    "cutnmix",
    "cutnmix_feature03",
    "cutnmix_feature01_others",
    "cutnmix_all_soft",
    "cutnmix_both_soft",
    "cutnmix_both_soft_lighter",
    "cutnmix_both_quarter",
    "cutnmix_both_quarter_half",
    "cutnmix_both_ramped_half",
    "kdcl_cutmix",
    "pcl_cutmix",
    "ffl_cutmix",
    "dlb_cutmix",
    "mcl_cutmix",
    "afd_cutmix",
)
# Only where named. In train1000 the first two cost what cutnmix_both_ramped does, elsewhere they
# mean nothing.
WHERE_NAMED = (
    *("independent_cutmix_longer", "one_wider_cutmix"),
    *("independent_cutmix_3_peers", "dml_cutmix_3_peers", "cutnmix_3_peers"),
)
KEPT = ("flags.cfg", "metrics.jsonl", "result.json")
PLACES = ("--workdir=", "--data_dir=", "--cache_dir=", "--export_dir=")
BASELINE = "method=independent,mix=cutmix,mix_probability=1.0,mix_until=1.0,num_peers=2"


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("action", choices=["run", "collect", "pause", "continue", "report"])
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/small_data"))
    parser.add_argument("--data_dir", default="", help="where TFDS keeps its data")
    parser.add_argument("--fonts", type=pathlib.Path, help="the folder 'fonts' of the letters")
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
        report(workdir / "report")
    else:
        signal_all(workdir, arguments.action)


def run(workdir: pathlib.Path, arguments: argparse.Namespace) -> None:
    """Make the runs that are not done, regime by regime, giving way to other programs."""
    regimes, rows = arguments.regimes.split(","), arguments.rows.split(",")
    for kind, names in (("regimes", regimes), ("rows", rows)):
        for name in names:
            if not (HERE / kind / f"{name}.cfg").is_file():
                sys.exit(f"--{kind}: there is no {name} in {HERE / kind}")
    # The letters are ./fonts in flags.cfg, which then names no place.
    fonts = arguments.fonts.absolute() if arguments.fonts else None
    if "letters" in regimes and not (fonts and fonts.name == "fonts" and fonts.is_dir()):
        sys.exit("--fonts: name the folder 'fonts' of the letters, or leave them out: --regimes")
    if running(workdir):
        sys.exit(f"a study runs in {workdir}")
    workdir.mkdir(parents=True, exist_ok=True)
    pid = workdir / "study.pid"
    pid.write_text(str(os.getpid()))
    os.nice(19)
    # A sweep must not outlive the study: subprocess ends it when an exception passes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        codes = [sweep(workdir / regime, rows, fonts, arguments) for regime in regimes]
    finally:
        pid.unlink()
    if any(codes):
        sys.exit(1)


def sweep(
    folder: pathlib.Path,
    rows: list[str],
    fonts: pathlib.Path | None,
    arguments: argparse.Namespace,
) -> int:
    """Make the runs of one regime; the exit code of the sweep."""
    bring_back(folder)
    command = [
        # Not what lies in the current folder, but what is installed.
        *(sys.executable, "-P", "-m", "tf_cutnmix.sweep"),
        f"--flagfile={HERE / 'regimes' / folder.name}.cfg",
        f"--grid=seed={arguments.seeds}",
        f"--grid=flagfile={','.join(str(HERE / 'rows' / f'{row}.cfg') for row in rows)}",
        f"--workdir={folder}",
        f"--data_dir={arguments.data_dir}",
        f"--jobs={arguments.jobs}",
    ]
    # TensorFlow leaves these kernels off on processors that have no AVX-512.
    environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": "1"}
    inside = fonts.parent if folder.name == "letters" else None
    code = subprocess.run(command, cwd=inside, env=environment, check=False).returncode
    collect(folder.parent)
    return code


def bring_back(folder: pathlib.Path) -> None:
    """Put the collected results of a regime where a sweep finds them done."""
    for cell in (RESULTS / folder.name).glob("*/"):
        if not (folder / cell.name / "result.json").exists():
            shutil.copytree(cell, folder / cell.name, dirs_exist_ok=True)


def collect(workdir: pathlib.Path) -> None:
    """Copy finished runs into results/, without weights and without the names of places."""
    for result in sorted(workdir.glob("*/*/result.json")):
        run_folder = result.parent
        target = RESULTS / run_folder.parent.name / run_folder.name
        if target.exists():
            continue
        begun = target.with_name(f".{target.name}")
        begun.mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            lines = (run_folder / name).read_text().splitlines(keepends=True)
            kept = [line for line in lines if not line.startswith(PLACES)]
            (begun / name).write_text("".join(kept))
        begun.rename(target)
        print(f"collected {run_folder.parent.name}/{run_folder.name}", flush=True)


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


def report(folder: pathlib.Path) -> None:
    """Draw a report of each regime's collected results, and one of the two precisions."""
    regimes = {path.name: [path] for path in sorted(RESULTS.glob("*/"))}
    if not regimes:
        sys.exit(f"there are no results in {RESULTS}")
    baselines = dict.fromkeys(regimes, BASELINE)
    if "train1000_bfloat16" in regimes:
        regimes["train1000_bfloat16"].append(RESULTS / "train1000")
        baselines["train1000_bfloat16"] = "method=dml,mix=cutmix,precision=float32"
    for regime, places in regimes.items():
        command = [sys.executable, "-P", "-m", "tf_cutnmix.report", *map(str, places)]
        options = [f"--out={folder / regime}", f"--baseline={baselines[regime]}"]
        subprocess.run([*command, *options], check=True)


if __name__ == "__main__":
    main()
