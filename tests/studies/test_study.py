"""The study of small data: its flagfiles, its results, its pauses."""

import argparse
import importlib.util
import pathlib
import sys
import time
from collections.abc import Callable

import psutil
import pytest

from tests.run_folders import write_run
from tf_cutnmix import command, report, sweep
from tf_cutnmix.reporting import groups, runs
from tf_cutnmix.runs import build
from tf_cutnmix.runs.config import Config
from tf_cutnmix.sweeps import results

FOLDER = pathlib.Path(__file__).parents[2] / "studies" / "small_data"


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The program, which keeps its results elsewhere."""
    found = importlib.util.spec_from_file_location("study", FOLDER / "study.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    return module


def settings(workdir: pathlib.Path, regime: str, *rows: str) -> sweep.Settings:
    files = ",".join(str(FOLDER / "rows" / f"{row}.cfg") for row in rows)
    flags = [
        f"--flagfile={FOLDER / 'regimes' / regime}.cfg",
        *("--grid=seed=0,1", f"--grid=flagfile={files}", f"--workdir={workdir}"),
    ]
    return command.parse(sweep.Settings, flags)


@pytest.mark.parametrize("regime", sorted((FOLDER / "regimes").glob("*.cfg")), ids=lambda p: p.stem)
def test_every_row_in_every_regime_is_a_run_of_its_own(regime, study, tmp_path):
    configs = sweep.make_configs(settings(tmp_path / "x", regime.stem, *study.ROWS))
    assert len(configs) == 2 * len(study.ROWS)
    for config in configs.values():
        build.check_names(config)
        assert (config.threads, config.validation_fraction, config.export) == (1, 0.0, "")
    told = {str(groups.settings_of(config)) for config in configs.values()}
    assert len(told) == len(study.ROWS)


def test_every_row_that_there_is_belongs_to_the_study(study):
    assert {path.stem for path in (FOLDER / "rows").glob("*.cfg")} == {
        *study.ROWS,
        *study.WHERE_NAMED,
    }
    regimes = {path.stem for path in (FOLDER / "regimes").glob("*.cfg")}
    assert regimes == {*study.REGIMES, "train1000_bfloat16"}


@pytest.mark.slow
@pytest.mark.parametrize("regime", [path.name for path in sorted((FOLDER / "results").iterdir())])
def test_the_results_of_a_regime_have_a_report_with_one_baseline(regime, study, tmp_path):
    flags = [str(FOLDER / "results" / regime), f"--out={tmp_path}", f"--baseline={study.BASELINE}"]
    report.main(command.parse(report.Settings, flags))
    assert "independent" in (tmp_path / "report.md").read_text()


def test_results_are_kept_without_places_and_count_as_done_elsewhere(study, tmp_path):
    here, there = tmp_path / "here" / "train1000", tmp_path / "there" / "train1000"
    name, config = next(iter(sweep.make_configs(settings(here, "train1000", "dml_none")).items()))
    write_run(here / name)
    (here / name / "last.npz").touch()
    flags = here / name / "flags.cfg"
    flags.write_text(config.flagfile() + "--data_dir=/somewhere\n")
    (here / "unfinished").mkdir()
    study.collect(here.parent)
    kept = tmp_path / "results" / "train1000" / name
    assert sorted(path.name for path in kept.iterdir()) == sorted(study.KEPT)
    assert "/" not in (kept / "flags.cfg").read_text()
    assert [path.name for path in kept.parent.iterdir()] == [name]

    study.bring_back(there)
    for other in sweep.make_configs(settings(there, "train1000", "dml_none")).values():
        assert results.is_done(other) == (other.seed == 0)
    read = runs.read(kept, lambda path: command.parse(Config, [f"--flagfile={path}"]))
    assert read.config.train_split == "train[:1000]"


def test_what_was_ended_here_is_not_replaced_by_results(study, tmp_path):
    write_run(tmp_path / "results" / "letters" / "seed=0")
    begun = tmp_path / "letters" / "seed=0" / "flags.cfg"
    begun.parent.mkdir(parents=True)
    begun.write_text("--seed=7\n")
    (begun.parent / "result.json").touch()
    study.bring_back(tmp_path / "letters")
    assert begun.read_text() == "--seed=7\n"


def test_the_study_stands_still_and_goes_on_with_all_of_its_processes(study, tmp_path):
    def until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    sleep = "import time; time.sleep(300)"
    program = tmp_path / "study.py"
    program.write_text(f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {sleep!r}])")
    parent = psutil.Popen([sys.executable, str(program)])
    both = [parent]
    try:
        until(parent.children)
        both += parent.children()
        (tmp_path / "study.pid").write_text(str(parent.pid))
        study.signal_all(tmp_path, "pause")
        until(lambda: all(process.status() == psutil.STATUS_STOPPED for process in both))
        study.signal_all(tmp_path, "continue")
        until(lambda: all(process.status() != psutil.STATUS_STOPPED for process in both))
    finally:
        for process in both:
            process.kill()
        parent.wait()
    with pytest.raises(SystemExit, match="no study runs in"):
        study.signal_all(tmp_path, "pause")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"regimes": "letters"}, "--fonts: name the folder 'fonts'"),
        ({"regimes": "letters", "fonts": pathlib.Path("letters")}, "--fonts: name the folder"),
        ({"regimes": "train1000,train10"}, "--regimes: there is no train10 "),
        ({"rows": "dml_none,dlm"}, "--rows: there is no dlm "),
    ],
)
def test_what_the_study_has_not_is_refused_before_anything_runs(settings, words, study, tmp_path):
    defaults = {"regimes": "train1000", "rows": "dml_none", "fonts": None}
    with pytest.raises(SystemExit, match=words):
        study.run(tmp_path / "x", argparse.Namespace(**{**defaults, **settings}))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("content", ["", "x", "1"])
def test_a_file_that_names_no_study_stops_nothing(content, study, tmp_path):
    """Process 1 is somebody else's."""
    (tmp_path / "study.pid").write_text(content)
    with pytest.raises(SystemExit, match="no study runs in"):
        study.signal_all(tmp_path, "pause")


def test_a_copy_that_was_broken_off_is_made_again(study, tmp_path):
    write_run(tmp_path / "runs" / "train1000" / "seed=0")
    broken = tmp_path / "results" / "train1000" / ".seed=0"
    broken.mkdir(parents=True)
    (broken / "flags.cfg").write_text("--se")
    study.collect(tmp_path / "runs")
    kept = [path.name for path in (tmp_path / "results" / "train1000").iterdir()]
    assert kept == ["seed=0"]
    assert "--seed=0\n" in (tmp_path / "results/train1000/seed=0/flags.cfg").read_text()


@pytest.mark.long
def test_reports_are_drawn_of_each_regime_and_of_the_precisions(study, tmp_path):
    with pytest.raises(SystemExit, match="there are no results"):
        study.report(tmp_path / "report")
    results = tmp_path / "results"
    for seed in (0, 1):
        write_run(results / "train1000" / f"a{seed}", seed=seed)
        write_run(results / "train1000" / f"b{seed}", seed=seed, method="dml")
        write_run(
            *(results / "train1000_bfloat16" / f"seed={seed}",),
            **{"seed": seed, "method": "dml", "precision": "mixed_bfloat16"},
        )
    study.report(tmp_path / "report")
    for regime in ("train1000", "train1000_bfloat16"):
        page = (tmp_path / "report" / regime / "report.md").read_text()
        assert "defaults assumed" not in page
    assert "mixed_bfloat16" in page
