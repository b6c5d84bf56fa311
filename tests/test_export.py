"""Exporting a finished run once more."""

import functools
import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.runs.short_runs import ALONE, Run, run
from tf_cutnmix import data, export
from tf_cutnmix.errors import InputError
from tf_cutnmix.runs import exporting, predictions

pytestmark = pytest.mark.long

# Their network is one of the tests' own.
trusting = functools.partial(export.Settings, trust_code=True)

SPLIT = {"validation_fraction": 0.4, "train_split": "train[:160]", "test_split": "test[:40]"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    """A run that exported its peer, the best of three epochs."""
    folder = tmp_path_factory.mktemp("runs")
    places = {"export": "peer", "export_dir": str(folder / "savedmodels")}
    return run(folder / "run", {**ALONE, **SPLIT, "epochs": 2}, **places)


@pytest.fixture(scope="module")
def again(finished, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("again")
    export.main(trusting(run=str(finished.folder), export_dir=str(folder)))
    return folder / f"{finished.config.name}_peer" / "1"


def probabilities(version: pathlib.Path) -> np.ndarray:
    images = data.load("digits", "test[:40]").pixels
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    return served(images=tf.constant(images))["probabilities"].numpy()


def test_it_is_what_the_run_exported(finished, again):
    first = probabilities(pathlib.Path(finished.result["exports"]["peer"]))
    np.testing.assert_allclose(probabilities(again), first, atol=1e-6)


def test_without_a_place_it_is_the_next_version_and_prints_the_accuracy_of_each_format(
    finished, capsys
):
    pytest.importorskip("ai_edge_litert")
    settings = trusting(run=str(finished.folder), export_format="savedmodel,litert")
    export.main(settings)
    first = pathlib.Path(finished.result["exports"]["peer"])
    assert (first.name, first.parent.name) == ("1", f"{finished.config.name}_peer")
    second = first.parent / "2"
    assert (second / "model.tflite").exists()
    assert (second / "saved_model.pb").exists()
    *figures, place = capsys.readouterr().out.splitlines()
    assert place == f"exported peer: {second}"
    record = json.loads((second / "assets" / "export.json").read_text())["formats"]
    best = finished.result["best_on_validation"]["test"]
    accuracy = best[f"{finished.result['best_peer']}_accuracy"]
    assert record["savedmodel"]["accuracy"] == pytest.approx(accuracy)
    assert [line.split(",")[0] for line in figures] == [f"{second}: {name}" for name in record]
    for line, name in zip(figures, record, strict=True):
        assert line.endswith(f"accuracy {record[name]['accuracy']:.2%}")


def test_another_network_of_the_run_may_be_chosen(finished, tmp_path):
    export.main(trusting(str(finished.folder), export="teacher", export_dir=str(tmp_path)))
    assert (tmp_path / finished.config.name / "1" / "saved_model.pb").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "--run is missing"),
        ({"run": "x", "export_format": "tflite"}, "unknown --export_format 'tflite'"),
        ({"run": "x", "export_format": "onxn"}, "did you mean 'onnx'"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(InputError, match=words):
        export.Settings(**settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"run": "nowhere"}, "nowhere is no run: it holds no flags.cfg"),
        ({"run": "unfinished"}, "unfinished is no finished run"),
        ({"run": "unfinished", "export": "best"}, "unknown --export 'best'"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(
    settings, words, finished, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "flags.cfg").write_bytes(
        (finished.folder / "flags.cfg").read_bytes()
    )
    with pytest.raises(InputError, match=words) as caught:
        export.main(trusting(**settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (
            "flags.cfg",
            b"--dataset=digits\n--alpha=-1\n",
            "flags.cfg is damaged, .*alpha",
        ),
        ("flags.cfg", b"--dataset=\xff\n", "flags.cfg is damaged"),
        ("result.json", b'{"best_peer": "peer1"', "no whole result.json"),
        ("result.json", b'{"best_peer": "peer1"}', "result.json tells no best_on_validation"),
        ("checkpoints/00000009-00000000.npz", None, "checkpoints holds none"),
        ("export", b"", "cannot be a folder"),
    ],
)
def test_the_folder_of_a_run_is_looked_at_before_its_data_are_read(
    file, content, words, finished, tmp_path, monkeypatch
):
    monkeypatch.setattr(exporting, "load_splits", lambda config: pytest.fail("data are read"))
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    if content is None:
        shutil.rmtree((folder / file).parent)
    else:
        (folder / file).write_bytes(content)
    settings = trusting(str(folder), export_dir=str(folder / "export"))
    with pytest.raises(InputError, match=words) as caught:
        export.main(settings)
    assert "\n" not in str(caught.value)


def test_the_weights_that_a_run_began_with_are_not_needed_again(finished, again, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    with (folder / "flags.cfg").open("a") as flags:
        flags.write("--weights_from=gone.weights.h5\n--freeze=backbone\n")
    export.main(trusting(str(folder), export_dir=str(tmp_path / "out")))
    (version,) = (tmp_path / "out").glob("*/1")
    np.testing.assert_allclose(probabilities(version), probabilities(again), atol=1e-6)


def test_checkpoints_of_another_moment_than_the_result_are_refused(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    result = finished.result["best_on_validation"]
    told = {**finished.result, "best_on_validation": {**result, "step": result["step"] + 1}}
    (folder / "result.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match=rf"of step {result['step']}, its .* {result['step'] + 1}"):
        export.main(trusting(str(folder), export_dir=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_a_run_that_was_cut_short_is_exported_as_it_was_then(tmp_path):
    cut = run(tmp_path / "run", {**ALONE, **SPLIT}, steps=2)
    settings = trusting(str(cut.folder), export="peer", export_dir=str(tmp_path / "out"))
    export.main(settings)
    (version,) = (tmp_path / "out").glob("*/1")
    said = predictions.read(cut.folder / "predictions.npz").probabilities[cut.result["best_peer"]]
    np.testing.assert_allclose(probabilities(version), said, atol=1e-5)
