"""Where an export lies: by its folder, its name or the run that made it."""

import json
import os
import pathlib
import shutil

import pytest

from tf_cutnmix import exports
from tf_cutnmix.errors import InputError

NAME = pathlib.Path("savedmodels", "pets_resnet8")


def write_export(folder: pathlib.Path, graph: str = "graph") -> pathlib.Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_text(graph)
    (folder / "variables" / "variables.index").write_text("weights")
    return folder


def write_result(run: pathlib.Path, places: dict[str, pathlib.Path], **changed) -> pathlib.Path:
    run.mkdir(parents=True, exist_ok=True)
    content = exports.record(run, {kind: str(place) for kind, place in places.items()})
    (run / "result.json").write_text(json.dumps(content | changed))
    return run


def found(folder: pathlib.Path) -> pathlib.Path:
    return exports.find(str(folder), "savedmodel").resolve()


def refusal(folder: pathlib.Path) -> str:
    with pytest.raises(InputError) as caught:
        found(folder)
    return str(caught.value)


@pytest.fixture
def project(tmp_path, monkeypatch) -> pathlib.Path:
    """A project with ./runs/pets, which exported to ./savedmodels as runs do by default."""
    place = tmp_path / "project"
    version = write_export(place / NAME / "1")
    monkeypatch.chdir(place)
    write_result(place / "runs" / "pets", {"teacher": version})
    return place


def test_a_name_means_its_newest_version_by_number(tmp_path) -> None:
    for name in ("2", "10", "9", "latest"):
        write_export(tmp_path / name)
    (tmp_path / "11").mkdir()  # half-written
    assert found(tmp_path) == tmp_path / "10"
    assert found(tmp_path / "9") == tmp_path / "9"


def test_a_run_is_asked_wherever_one_stands_and_wherever_it_was_moved(
    project, tmp_path, monkeypatch
) -> None:
    version = project / NAME / "1"
    run = project / "runs" / "pets"
    assert found(pathlib.Path("runs/pets")) == version
    for elsewhere in ("/", run):
        monkeypatch.chdir(elsewhere)
        assert found(run) == version
    moved = shutil.move(run, tmp_path / "archive")
    assert found(moved) == version


def test_a_project_that_was_moved_has_its_exports(project, tmp_path) -> None:
    shutil.move(project, tmp_path / "elsewhere")
    assert found(tmp_path / "elsewhere/runs/pets") == tmp_path / "elsewhere" / NAME / "1"


@pytest.mark.parametrize("recorded", [None, "sweeps/one/seed=0/savedmodels/pets_resnet8/1"])
def test_what_lies_in_a_run_moves_with_it_and_needs_no_fingerprint(recorded, tmp_path) -> None:
    """The second is how runs of before recorded it: from where they were made."""
    run = tmp_path / "run"
    write_result(run, {"teacher": write_export(run / NAME / "1")}, fingerprints={})
    if recorded:
        (run / "result.json").write_text(json.dumps({"exports": {"teacher": recorded}}))
    else:
        assert json.loads((run / "result.json").read_text())["exports"]["teacher"] == f"{NAME}/1"
    moved = shutil.move(run, tmp_path / "moved")
    assert found(moved) == tmp_path / "moved" / NAME / "1"


@pytest.mark.parametrize(
    "change",
    [
        lambda version: (version / "saved_model.pb").write_text("another"),
        lambda version: (version / "variables" / "variables.index").write_text("others"),
        lambda version: (version / "saved_model.cpb").touch(),
        lambda version: (version / "variables" / "variables.index").unlink(),
        lambda version: (version / "variables").rename(version / "assets"),
    ],
)
def test_outside_of_the_run_what_is_not_what_it_exported_is_refused(change, project) -> None:
    change(project / NAME / "1")
    line = refusal(project / "runs" / "pets")
    assert line.endswith("is not what that run exported; if you trust it, name it itself")
    assert f"{project / NAME / '1'}" in line


def test_without_a_fingerprint_the_place_is_proposed_and_can_be_named(project) -> None:
    run = project / "runs" / "pets"
    for known in ({}, {"teacher": None}, [], {"peer": "0"}):
        write_result(run, {"teacher": project / NAME / "1"}, fingerprints=known)
        line = refusal(run)
        assert "outside of its folder, and has no fingerprint" in line
        assert found(pathlib.Path(line.rpartition(": ")[2])) == project / NAME / "1"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"exports": {}}, "exported nothing"),
        ({"exports": {"teacher": 7}}, "damaged"),
        ({"exports": {"teacher": "/etc"}}, "exported to /etc, where no export is"),
        ({"exports": {"teacher": "../../.."}}, "where no export is"),
        ({"exports": {"teacher": "\x1b[2J" + "a/" * 5000}}, r"\x1b[2Ja/a"),
        ([1, 2], "exported nothing"),
    ],
)
def test_a_record_of_any_making_ends_in_one_short_line(content, words, project) -> None:
    run = project / "runs" / "pets"
    (run / "result.json").write_text(json.dumps(content))
    line = refusal(run)
    assert words in line
    assert line.isprintable()
    assert len(line) < 500


def test_a_run_that_has_no_teacher_is_asked_through_what_it_exported(project) -> None:
    version = write_export(project / f"{NAME}_peer" / "1")
    write_result(project / "runs" / "pets", {"peer": version})
    assert found(project / "runs" / "pets") == version


def test_a_run_that_has_not_ended_and_a_folder_that_is_none_are_told_apart(project) -> None:
    run = project / "runs" / "pets"
    (run / "result.json").unlink()
    assert refusal(run).endswith("holds no saved_model.pb")
    (run / "flags.cfg").touch()
    assert "has not ended" in refusal(run)
    assert "did you mean" in refusal(project / "runs" / "pet")
    assert os.fspath(run) in refusal(project / "runs" / "pet")
