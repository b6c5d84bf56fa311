"""Runs: found at any depth, read completely, and refused in one line where they are broken."""

import json
import math
import pathlib

import pytest

from tests.run_folders import make_run, read_flags, write_run
from tf_cutnmix.errors import InputError, RunError
from tf_cutnmix.reporting import runs


def refusal(folder: pathlib.Path) -> str:
    with pytest.raises(RunError) as caught:
        runs.read(folder, read_flags)
    assert not isinstance(caught.value, InputError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Finding


def test_runs_are_found_at_any_depth_and_once_by_any_of_their_files(tmp_path) -> None:
    folders = [tmp_path / name for name in ("a", "b/c", "b/d/e")]
    for folder, name in zip(folders, ("flags.cfg", "metrics.jsonl", "result.json"), strict=True):
        folder.mkdir(parents=True)
        (folder / name).write_text("")
    assert runs.find([str(tmp_path)]) == folders
    places = [str(tmp_path / "b"), str(tmp_path), f"{tmp_path}/b/../a"]
    assert runs.find(places) == [*folders[1:], folders[0]]
    assert runs.find([str(folders[0])]) == folders[:1]


# Figures


def test_figures_are_those_of_the_networks(tmp_path: pathlib.Path) -> None:
    # Ten peers, of which a name's order is not the number's.
    peers = (0.2, *[0.4] * 8, 0.6)
    run = make_run(
        tmp_path / "run", teacher=0.5, peers=peers, last_teacher=0.3, seed=7, mix="mixup"
    )
    assert (run.config.seed, run.config.mix) == (7, "mixup")
    assert run.versions == {"tensorflow": "2.21.0", "machine": "2 cores"}
    expected = {
        "best_teacher_accuracy": 0.5,
        "last_teacher_accuracy": 0.3,
        "best_ensemble_accuracy": 0.7,
        "best_mean_peer_accuracy": 0.4,
        "best_best_peer_accuracy": 0.6,
        "best_epoch": 1,
        "last_step": 20,
        "best_negative_log_likelihood": 1.25,
        "images_per_second": 200,
        "wall_seconds": 60,
    }
    assert {name: run.figures[name] for name in expected} == pytest.approx(expected)


def test_the_best_peer_is_chosen_on_the_validation_split_if_there_is_one(tmp_path) -> None:
    folder = write_run(tmp_path / "run", peers=(0.2, 0.6), test={"peer1_accuracy": 0.9})
    assert runs.read(folder, read_flags).figures["best_best_peer_accuracy"] == 0.6
    result = json.loads((folder / "result.json").read_text())
    for moment in ("last", "best_on_validation"):
        del result[moment]["validation"]
    (folder / "result.json").write_text(json.dumps(result))
    assert "best_best_peer_accuracy" not in runs.read(folder, read_flags).figures


def test_what_newer_runs_record_is_read_and_what_older_ones_lack_is_missing(tmp_path) -> None:
    test = {
        "teacher_calibration_error": 0.01,
        "peer1_calibration_error": 0.02,
        "peer2_calibration_error": 0.04,
        "disagreement": 0.2,
        "distance": 0.3,
    }
    result = {"leader": "peer2", "flops_per_image": 1e8, "peak_memory_bytes": 2**30}
    run = make_run(
        tmp_path / "run", test=test, result=result, row={"region_overlap": 0.45}, mix="cutnmix"
    )
    expected = {
        "best_teacher_calibration_error": 0.01,
        "best_mean_peer_calibration_error": 0.03,
        "last_disagreement": 0.2,
        "best_distance": 0.3,
        "best_leader_accuracy": 0.6,
        "region_overlap": 0.45,
        "flops_per_image": 1e8,
        "peak_memory_bytes": 2**30,
    }
    assert {name: run.figures[name] for name in expected} == pytest.approx(expected)
    older = make_run(tmp_path / "older", mix="cutnmix", result={"images_per_second": None})
    missing = {*expected, "images_per_second", "trained_parameters"}
    assert older.figures.keys().isdisjoint(missing)


def test_curves_are_by_epoch_and_a_figure_that_an_epoch_lacks_is_nan(tmp_path) -> None:
    folder = write_run(tmp_path / "run", teacher=0.5, peers=(0.2, 0.4), row={"feature": 0.5})
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    late = {"epoch": 3, "val_peer1_accuracy": 0.5, "val_peer2_accuracy": 0.7}
    (folder / "metrics.jsonl").write_text("\n".join([*lines, json.dumps(late)]))
    curves = runs.read(folder, read_flags).curves
    assert curves["loss"].dropna().to_dict() == {1: 2.0, 2: 1.0}
    assert curves["val_teacher_accuracy"].dropna().to_dict() == {1: 0.5, 2: 0.25}
    assert curves["val_mean_peer_accuracy"].to_dict() == pytest.approx({1: 0.3, 2: 0.3, 3: 0.6})
    assert curves["feature"].dropna().to_dict() == {1: 0.5, 2: 0.5}
    assert "epoch" not in curves


def test_a_run_may_have_no_epochs_to_show(tmp_path: pathlib.Path) -> None:
    (write_run(tmp_path / "run") / "metrics.jsonl").write_text("")
    assert runs.read(tmp_path / "run", read_flags).curves["loss"].empty


# Trouble


def test_a_run_without_a_result_is_unfinished(tmp_path: pathlib.Path) -> None:
    folder = write_run(tmp_path / "run", epochs=9)
    (folder / "result.json").unlink()
    assert refusal(folder) == f"unfinished: {folder} has no result.json after 2 of 9 epochs"
    (folder / "metrics.jsonl").unlink()
    assert refusal(folder).endswith("after 0 of 9 epochs")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("flags.cfg", b"--epochs=many\n", "flags.cfg"),
        ("flags.cfg", b"\xff\xfe", "flags.cfg"),
        ("result.json", b'{"last": {', "result.json is damaged or half-written"),
        ("result.json", b"", "result.json is damaged or half-written"),
        ("result.json", b"\xff\xfe", "result.json is damaged or half-written"),
        ("result.json", b"[1, 2]", "does not hold what a run writes"),
        ("result.json", b'{"last": {"epoch": 1}}', "does not hold what a run writes"),
        ("metrics.jsonl", b'{"epoch": 1}\n{"epo', "metrics.jsonl is damaged or half-written"),
        ("metrics.jsonl", b"7\n", "does not hold what a run writes"),
        ("metrics.jsonl", b'{"epoch": 1, "loss": null}\n', "does not hold what a run writes"),
    ],
)
def test_a_damaged_file_is_named(
    name: str, content: bytes, words: str, tmp_path: pathlib.Path
) -> None:
    folder = write_run(tmp_path / "run")
    (folder / name).write_bytes(content)
    message = refusal(folder)
    assert message.startswith("broken: ")
    assert str(folder) in message
    assert words in message


@pytest.mark.parametrize("name", ["flags.cfg", "metrics.jsonl"])
def test_a_lost_file_is_named(name: str, tmp_path: pathlib.Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / name).unlink()
    assert refusal(folder).startswith("broken: ")
    (folder / name).mkdir()
    assert refusal(folder).startswith("broken: ")
    assert name in refusal(folder)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_figure_that_is_no_finite_number_breaks_the_run(value, tmp_path) -> None:
    folder = write_run(tmp_path / "in_result", test={"teacher_accuracy": value})
    assert f"best_teacher_accuracy is {value}" in refusal(folder)
    folder = write_run(tmp_path / "in_an_epoch", row={"loss": value})
    assert f"loss is {value}" in refusal(folder)


def test_classes_and_counts_are_read_where_they_were_recorded(tmp_path: pathlib.Path) -> None:
    result = {"class_names": ["a", "b"], "counts": {"test": [3, 4]}}
    run, older = make_run(tmp_path / "new", result=result), make_run(tmp_path / "old")
    assert (run.class_names, run.counts) == (("a", "b"), {"test": (3, 4)})
    assert (older.class_names, older.counts) == ((), {})


@pytest.mark.parametrize("counts", [[1], {"test": 3}, {"test": ["many"]}, {"test": [None]}])
def test_counts_that_are_none_are_broken(counts: object, tmp_path: pathlib.Path) -> None:
    assert "broken" in refusal(write_run(tmp_path / "run", result={"counts": counts}))
