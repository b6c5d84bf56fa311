"""The study of small data: its flagfiles, its results, its pauses."""

import argparse
import json
import pathlib
import re

import pytest

from tests.run_folders import read_flags, write_run
from tests.studies import programs
from tf_cutnmix import command, sweep
from tf_cutnmix.reporting import comparison, runs
from tf_cutnmix.runs import build
from tf_cutnmix.sweeps import grid

STUDIES = programs.STUDIES
REGIMES = sorted(STUDIES.glob("*/regimes/*.cfg"))


@pytest.fixture(scope="module")
def program():
    return programs.load(STUDIES / "study.py")


@pytest.fixture
def study(program, tmp_path):
    """That of small data, which keeps its results elsewhere."""
    found = program.Study("small_data", tmp_path / "here")
    found.results = tmp_path / "results"
    return found


def settings(workdir: pathlib.Path, regime: pathlib.Path, *rows: str) -> sweep.Settings:
    files = ",".join(str(regime.parents[1] / "rows" / f"{row}.cfg") for row in rows)
    flags = [
        f"--flagfile={regime}",
        *("--grid=seed=0,1", f"--grid=flagfile={files}", f"--workdir={workdir}"),
    ]
    return command.parse(sweep.Settings, flags)


@pytest.mark.parametrize("regime", REGIMES, ids=lambda p: f"{p.parents[1].name}-{p.stem}")
def test_every_row_in_every_regime_is_a_run_of_its_own(regime, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(regime.parents[1])  # for networks of the study's own
    rows = sorted(path.stem for path in (regime.parents[1] / "rows").glob("*.cfg"))
    configs = sweep.make_configs(settings(tmp_path / "x", regime, *rows))
    assert len(configs) == 2 * len(rows)
    for config in configs.values():
        build.check_names(config)
        assert (config.threads, config.validation_fraction, config.export) == (1, 0.0, "")
    different = {str(comparison.settings_of(config)) for config in configs.values()}
    assert len(different) == len(rows)


@pytest.mark.parametrize("name", ["small_data", "few_pictures", "fine_tuning"])
def test_every_row_and_regime_that_there_is_belongs_to_the_study(name, program, tmp_path):
    stages = program.Study(name, tmp_path).chosen("", "", "", "")
    named = {"independent_cutmix_longer", "one_wider_cutmix"}
    named |= set(re.findall(r"`(\w+)`", (STUDIES / name / "README.md").read_text()))
    for kind in ("rows", "regimes"):
        known = {name for stage in stages for name in getattr(stage, kind)}
        there = {path.stem for path in (STUDIES / name / kind).glob("*.cfg")}
        assert {row for row in there - known - named if not row.endswith("_3_peers")} == set()


@pytest.mark.long
def test_the_committed_results_are_read_whatever_version_wrote_them():
    folders = sorted(STUDIES.glob("*/results/*/*"))
    assert len(folders) > 300
    for folder in folders:
        assert runs.read(folder, read_flags).figures["last_teacher_accuracy"] > 0, folder


def test_results_are_kept_without_places_and_count_as_done_elsewhere(study, program, tmp_path):
    regime = STUDIES / "small_data" / "regimes" / "train1000.cfg"
    here, there = study.workdir / "train1000", tmp_path / "there"
    name, config = next(iter(sweep.make_configs(settings(here, regime, "dml_none")).items()))
    write_run(here / name)
    (here / name / "last.npz").touch()
    flags = here / name / "flags.cfg"
    flags.write_text(config.flagfile() + "--data_dir=/somewhere\n")
    result = here / name / "result.json"
    content = json.loads(result.read_text()) | {"flags": ["--workdir=/somewhere", "--seed=0"]}
    result.write_text(json.dumps(content, indent=2))
    (here / "unfinished").mkdir()
    program.collect(study)
    kept = study.results / "train1000" / name
    assert sorted(path.name for path in kept.iterdir()) == sorted(program.KEPT)
    assert "/" not in (kept / "flags.cfg").read_text()
    assert json.loads((kept / "result.json").read_text())["flags"] == ["--seed=0"]
    assert [path.name for path in kept.parent.iterdir()] == [name]

    study.workdir = there
    program.bring_back(study, "train1000")
    others = sweep.make_configs(settings(there / "train1000", regime, "dml_none"))
    for other in others.values():
        assert grid.is_done(other) == (other.seed == 0)
    assert runs.read(kept, read_flags).config.train_split == "train[:1000]"
    begun = there / "train1000" / name / "flags.cfg"
    begun.write_text("--seed=7\n")
    program.bring_back(study, "train1000")
    assert begun.read_text() == "--seed=7\n"  # what was ended here is not replaced


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"regimes": "letters"}, "--fonts: name the folder 'fonts'"),
        ({"regimes": "letters", "fonts": pathlib.Path("letters")}, "--fonts: name the folder"),
        ({"regimes": "train1000,train10"}, "--regimes: there is no train10 "),
        ({"stages": "some"}, "--stages: there is no some: all"),
    ],
)
def test_what_the_study_has_not_is_refused_before_anything_runs(given, words, study, program):
    named = {"stages": "", "regimes": "train1000", "rows": "dml_none", "seeds": "", "fonts": None}
    arguments = argparse.Namespace(**{**named, **given})
    chosen = {name: getattr(arguments, name) for name in named if name != "fonts"}
    with pytest.raises(SystemExit, match=words):
        program.run(study, study.chosen(*chosen.values()), arguments)
    assert not study.workdir.exists()
    with pytest.raises(SystemExit, match="there is no study few_picture in"):
        program.Study("few_picture", study.workdir)
