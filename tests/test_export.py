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
    """A run that exported its peer, the best of two epochs."""
    folder = tmp_path_factory.mktemp("runs")
    places = {"export": "peer", "export_dir": str(folder / "savedmodels")}
    return run(folder / "run", {**ALONE, **SPLIT, "epochs": 2}, **places)


def probabilities(version: pathlib.Path) -> np.ndarray:
    images = data.load("digits", "test[:40]").pixels
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    return served(images=tf.constant(images))["probabilities"].numpy()


def predicted(run: Run, network: str) -> np.ndarray:
    """What the run itself got for the test images."""
    return predictions.read(run.folder / "predictions.npz").probabilities[network]


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
    np.testing.assert_allclose(probabilities(second), probabilities(first), atol=1e-6)
    *figures, place = capsys.readouterr().out.splitlines()
    assert place == f"exported peer: {second}"
    record = json.loads((second / "assets" / "export.json").read_text())["formats"]
    best = finished.result["best_on_validation"]["test"]
    accuracy = best[f"{finished.result['best_peer']}_accuracy"]
    assert record["savedmodel"]["accuracy"] == pytest.approx(accuracy)
    assert [line.split(",")[0] for line in figures] == [f"{second}: {name}" for name in record]
    for line, name in zip(figures, record, strict=True):
        assert line.endswith(f"accuracy {record[name]['accuracy']:.2%}")


def test_another_network_may_be_chosen_and_the_weights_that_a_run_began_with_be_gone(
    finished, tmp_path
):
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    with (folder / "flags.cfg").open("a") as flags:
        flags.write("--weights_from=gone.weights.h5\n--freeze=backbone\n")
    export.main(trusting(str(folder), export="teacher", export_dir=str(tmp_path / "out")))
    version = tmp_path / "out" / finished.config.name / "1"
    np.testing.assert_allclose(probabilities(version), predicted(finished, "teacher"), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "--run is missing"),
        ({"run": "x", "export_format": "onxn"}, "did you mean 'onnx'"),
        ({"run": "nowhere"}, "nowhere: there is no such folder"),
        ({"run": "unfinished"}, "unfinished is no finished run"),
        ({"run": "unfinished", "export": "best"}, "unknown --export 'best'"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(
    settings, words, finished, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unfinished").mkdir()
    shutil.copy(finished.folder / "flags.cfg", tmp_path / "unfinished")
    with pytest.raises(InputError, match=words) as caught:
        export.main(trusting(**settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("flags.cfg", b"--dataset=digits\n--alpha=-1\n", "flags.cfg is damaged, .*alpha"),
        ("flags.cfg", b"--dataset=\xff\n", "flags.cfg is damaged"),
        ("result.json", b'{"best_peer": "peer1"', "no whole result.json"),
        ("result.json", b'{"best_peer": "peer1"}', "result.json has no best_on_validation"),
        ("checkpoints/00000009-00000000.npz", None, "checkpoints holds none"),
        ("export", b"", "cannot be a folder"),
    ],
)
def test_the_folder_of_a_run_is_checked_before_its_data_are_read(
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


def test_checkpoints_of_another_moment_than_the_result_are_refused(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    best = finished.result["best_on_validation"]
    later = {**finished.result, "best_on_validation": {**best, "step": best["step"] + 1}}
    (folder / "result.json").write_text(json.dumps(later))
    with pytest.raises(InputError, match=rf"of step {best['step']}, its .* {best['step'] + 1}"):
        export.main(trusting(str(folder), export_dir=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_a_run_that_was_cut_short_is_exported_as_it_was_then(tmp_path):
    cut = run(tmp_path / "run", {**ALONE, **SPLIT}, steps=2)
    settings = trusting(str(cut.folder), export="peer", export_dir=str(tmp_path / "out"))
    export.main(settings)
    (version,) = (tmp_path / "out").glob("*/1")
    expected = predicted(cut, cut.result["best_peer"])
    np.testing.assert_allclose(probabilities(version), expected, atol=1e-5)


def test_exports_are_calibrated_where_there_are_enough_validation_images(tmp_path, capsys):
    enough = {"validation_fraction": 0.5, "train_split": "train[:200]", "test_split": "test[:40]"}
    places = {"export": "peer", "export_dir": str(tmp_path / "out")}
    ended = run(tmp_path / "run", {**ALONE, **enough, "epochs": 2}, **places)
    network, best = ended.result["best_peer"], ended.result["best_on_validation"]
    temperature = best["test"]["scaled"][network]["temperature"]
    least = best["validation"]["confident"][network]["threshold"]
    assert temperature != pytest.approx(1, abs=0.01)
    powers = np.float64(predicted(ended, network)) ** (1 / temperature)
    version = pathlib.Path(ended.result["exports"]["peer"])
    found = probabilities(version)
    np.testing.assert_allclose(found, powers / powers.sum(axis=1, keepdims=True), atol=1e-5)
    record = json.loads((version / "assets" / "export.json").read_text())
    assert (record["temperature"], record["confident_from"]) == (temperature, least)
    card = (version / "MODEL_CARD.md").read_text()
    assert f"at temperature {temperature:.3g}, fitted on the 100 validation images" in card
    assert f"{version}: probabilities at temperature {temperature:.3g}" in capsys.readouterr().out
    with (ended.folder / "flags.cfg").open("a") as flags:
        flags.write("--calibrate=off\n")
    export.main(trusting(str(ended.folder)))
    plain = version.with_name("2")
    np.testing.assert_allclose(probabilities(plain), predicted(ended, network), atol=1e-5)
    assert "The probabilities are as they were trained." in (plain / "MODEL_CARD.md").read_text()
