"""One run: what it leaves behind, repeats, resumes and reports."""

import json
import os
import pathlib
import re
import shlex
import subprocess

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tests.processes import python
from tests.runs.short_runs import (
    ALONE,
    STEPS_PER_EPOCH,
    Run,
    assert_equal_to_the_bit,
    metrics,
    model_of,
    progress_of,
    run,
    state,
)
from tf_cutnmix import command, data, evaluate, export, exports, predict, train
from tf_cutnmix.errors import DivergenceError, RunError
from tf_cutnmix.runs import experiment, loading, predictions, results
from tf_cutnmix.runs.config import Config

pytestmark = pytest.mark.long

NETWORKS = ("average1", "average2", "peer1", "peer2")
TERMS = {"cross_entropy", "teacher", "feature", "weight_decay"}
VALIDATION = {"val_loss", *(f"val_{n}_accuracy" for n in ("teacher", "ensemble", *NETWORKS))}


def scalars_and_pictures(folder: pathlib.Path) -> dict[tuple[str, int], np.ndarray]:
    """What TensorBoard event files hold, by (tag, step)."""
    values = {}
    for file in folder.glob("events.*"):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                values[value.tag, event.step] = tf.make_ndarray(value.tensor)
    return values


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    return run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture(scope="module")
def repeated(finished, tmp_path_factory) -> tuple[pathlib.Path, subprocess.CompletedProcess]:
    """The same run as a command from its flag file, elsewhere and with every export."""
    cwd = tmp_path_factory.mktemp("repeated")
    arguments = [f"--flagfile={finished.folder}/flags.cfg", "--workdir=again"]
    arguments += ["--export=teacher,peer,ensemble", "--export_dir=exports"]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP")}
    process = python("-P", "-m", "tf_cutnmix.train", *arguments, cwd=cwd, env=plain)
    assert process.returncode == 0, process.stderr
    return cwd, process


def test_the_folder_holds_what_is_documented(finished):
    assert sorted(path.name for path in finished.folder.iterdir()) == [
        "checkpoints",
        "flags.cfg",
        "metrics.jsonl",
        "mistakes.csv",
        "mixed_batch.png",
        "predictions.npz",
        "result.json",
        "tensorboard",
        "test_image.png",
    ]


def test_metrics_have_a_line_per_epoch_with_every_term_and_validation_figure(finished):
    rows = metrics(finished.folder)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for row in rows:
        others = {"epoch", "images_per_second", "loss", "region_overlap", "learning_rate"}
        assert set(row) == others | TERMS | VALIDATION
        assert row["images_per_second"] > 0
        assert row["loss"] == pytest.approx(sum(row[term] for term in TERMS), rel=1e-5)


def test_tensorboard_holds_the_figures_of_the_metrics_and_the_picture(finished):
    training = scalars_and_pictures(finished.folder / "tensorboard" / "train")
    validation = scalars_and_pictures(finished.folder / "tensorboard" / "validation")
    for step, row in enumerate(metrics(finished.folder)):
        for name in ("loss", "learning_rate", *TERMS):
            assert training[f"epoch_{name}", step] == pytest.approx(row[name])
        for name in VALIDATION:
            key = f"epoch_{name.removeprefix('val_')}"
            assert validation[key, step] == pytest.approx(row[name])
    logged = training["mixed_batch", 0]
    in_the_folder = (finished.folder / "mixed_batch.png").read_bytes()
    np.testing.assert_array_equal(tf.io.decode_png(logged[2]), tf.io.decode_png(in_the_folder))


def test_every_pixel_in_the_picture_of_a_view_is_the_images_own_or_its_partners(finished):
    picture = tf.io.decode_png((finished.folder / "mixed_batch.png").read_bytes()).numpy()
    rows, columns, cell = 4, 8, 8 * 12 + 2 * 2
    assert picture.shape == (rows * cell, columns * cell, 3)
    cells = picture.reshape(rows, cell, columns, cell, 3).swapaxes(1, 2)
    own, partner, first, second = cells[:, :, 2:-2:12, 2:-2:12]
    for view in (first, second):
        assert np.all((view == own) | (view == partner))
        assert np.any(view != own)
        assert np.any(view != partner)
    assert np.any(first != second)


def test_last_and_best_figures_are_those_of_their_epochs(finished):
    assert json.loads((finished.folder / "result.json").read_text()) == finished.result
    rows = metrics(finished.folder)
    chosen = max(rows, key=lambda row: (row["val_teacher_accuracy"], row["epoch"]))
    for moment, row in (("last", rows[-1]), ("best_on_validation", chosen)):
        found = finished.result[moment]
        assert (found["epoch"], found["step"]) == (row["epoch"], row["epoch"] * STEPS_PER_EPOCH)
        for name in VALIDATION:
            figure = found["validation"][name.removeprefix("val_")]
            assert figure == pytest.approx(row[name])


def test_there_are_validation_and_test_figures_of_all_networks(finished):
    all_networks = ("teacher", "ensemble", *NETWORKS)
    names = {"loss", "disagreement", "distance"}
    kinds = ("accuracy", "balanced_accuracy", "calibration_error")
    names |= {f"{n}_{k}" for n in all_networks for k in kinds} | {"teacher_recall"}
    for moment in ("last", "best_on_validation"):
        assert set(finished.result[moment]) - {"train"} == {"epoch", "step", "validation", "test"}
        assert set(finished.result[moment]["validation"]) == names
        assert set(finished.result[moment]["test"]) == {*names, "scaled"}


def test_the_result_holds_what_the_run_was_made_from(finished):
    splits = loading.load_splits(finished.config)
    assert finished.result["class_names"] == [str(digit) for digit in range(10)]
    assert finished.result["image_size"] == [8, 8]
    for name, images in splits.present().items():
        counted = [int(np.sum(images.labels == digit)) for digit in range(10)]
        assert finished.result["counts"][name] == counted
    assert set(finished.config.flagfile().splitlines()) <= set(finished.result["flags"])
    assert finished.result["validation_split"] == ""  # a part of those for training


def test_the_predictions_are_those_of_the_figures_at_the_best_epoch(finished):
    saved = predictions.read(finished.folder / "predictions.npz")
    test = loading.load_splits(finished.config).test
    np.testing.assert_array_equal(saved.labels, test.labels)
    best = finished.result["best_on_validation"]["test"]
    assert set(saved.probabilities) == {"teacher", "ensemble", *NETWORKS}
    for name, probabilities in saved.probabilities.items():
        right = probabilities.argmax(axis=1) == test.labels
        assert best[f"{name}_accuracy"] == pytest.approx(np.mean(right))
    teacher = saved.probabilities["teacher"].argmax(axis=1)
    recall = [np.mean(teacher[test.labels == digit] == digit) for digit in range(10)]
    assert best["teacher_recall"] == pytest.approx(recall)
    assert best["teacher_balanced_accuracy"] == pytest.approx(np.mean(recall))
    shown = test.pixels[np.concatenate([saved.mistakes, saved.examples])]
    np.testing.assert_array_equal(saved.pictures, shown)
    assert saved.heat.shape == saved.pictures.shape[:3]
    assert saved.heat.max() == 255
    known = finished.result["best_on_validation"]["train"]
    assert 0.1 < known["teacher_accuracy"] <= 1
    assert saved.names[[0, 199]].tolist() == ["test[:200][0]", "test[:200][199]"]
    mistakes = pd.read_csv(finished.folder / "mistakes.csv")
    assert len(mistakes) == finished.result["mistakes"] == np.sum(teacher != test.labels)


def test_scaled_figures_are_those_at_the_temperature_that_fits_the_validation_images(finished):
    saved = predictions.read(finished.folder / "predictions.npz")
    found = finished.result["best_on_validation"]["test"]["scaled"]
    assert set(found) == set(saved.probabilities)
    for name, probabilities in saved.probabilities.items():
        powers = np.float64(probabilities) ** (1 / found[name]["temperature"])
        scaled = powers / powers.sum(axis=1, keepdims=True)
        likelihood = np.log(scaled[np.arange(len(saved.labels)), saved.labels])
        assert found[name]["negative_log_likelihood"] == pytest.approx(-likelihood.mean(), rel=1e-4)


@pytest.mark.usefixtures("eagerly")
def test_every_second_epoch_alone_is_validated_and_callbacks_see_each(tmp_path):
    """One image cannot tell epochs apart: of equally good ones the latest is the best."""
    one_image = {"validation_split": "test[:1]", "validation_every": 2, "learning_rate": 1e-9}
    one_image["batch_size"] = 72
    seen: list[dict[str, float]] = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: seen.append(dict(logs)))
    settings = {**ALONE, **one_image, "epochs": 5, "workdir": str(tmp_path / "run")}
    result = experiment.train_and_evaluate(Config(**settings), [callback])
    rows = metrics(tmp_path / "run")
    assert ["val_loss" in row for row in rows] == [False, True, False, True, False]
    assert [logs["loss"] for logs in seen] == [row["loss"] for row in rows]
    assert result["best_on_validation"]["epoch"] == 4


def test_the_command_describes_the_run_before_it_begins_and_an_epoch_a_line(repeated):
    cwd, process = repeated
    before, after = process.stdout.split("left, until")
    assert "8 x 8 pixels, 144 train, 96 validation, 200 test images" in before
    assert re.search(r"^classes  +10, training images 0: 1\d, 1: 1\d, ", before, re.M)
    count = json.loads((cwd / "again" / "result.json").read_text())["parameters"]["peer2"]
    network = rf"^2 x \S+ +{count:,} parameters, [\d.]+ MFLOPs an image, each$"
    assert re.search(network, before, re.M)
    assert re.search(
        r"^steps +3 epochs of 4 steps of 32 images \(--batch_size\): 12$", before, re.M
    )
    table = after.split("\n\n")[0].splitlines()
    header = next(line for line in table if "loss" in line)
    lines = [line for line in table if re.match(r" +[123][* ] ", line)]
    assert header.split()[:2] == ["epoch", "loss"]
    assert {len(line) for line in lines} == {len(header)}
    assert [line.split()[0].strip("*") for line in lines] == ["1", "2", "3"]


def test_the_command_draws_the_page_of_the_run_and_writes_nothing_to_stderr(repeated):
    cwd, process = repeated
    page = (cwd / "again" / "run.html").read_text()
    assert "page: again/run.html" in process.stdout
    assert page.count("<svg") >= 8
    assert "<h2>Classes</h2>" in page
    assert process.stderr == ""


def test_every_export_has_its_card(repeated):
    cwd, _ = repeated
    result = json.loads((cwd / "again" / "result.json").read_text())
    for kind, folder in result["exports"].items():
        card = (cwd / folder / "MODEL_CARD.md").read_text()
        network = result["best_peer"] if kind == "peer" else kind
        accuracy = result["best_on_validation"]["test"][f"{network}_accuracy"]
        assert f"| test | 200 | {accuracy:.2%} |" in card


def test_the_result_and_the_checkpoint_hold_size_speed_versions_and_the_best(finished):
    convolutions = 9 * (3 * 4 + 4 * 5 + 5 * 6) + 4 + 5
    size = convolutions + 2 * 4 + 2 * 6 + 6 * 10 + 10
    assert finished.result["parameters"] == {"peer1": size, "peer2": size}
    assert finished.result["trained_parameters"] == 2 * size + 2 * 6 * 6
    assert finished.result["flops_per_image"] > 5e4
    assert finished.result["peak_memory_bytes"] > 2**27
    assert finished.result["leader"] is None
    rates = [row["images_per_second"] for row in metrics(finished.folder)[1:]]
    assert finished.result["images_per_second"] == pytest.approx(np.mean(rates), abs=0.1)
    assert 0.1 < finished.result["wall_seconds"] < 600
    assert finished.result["versions"]["tensorflow"] == tf.__version__
    assert finished.result["versions"]["keras"] == keras.__version__
    assert "ONEDNN" not in finished.result["versions"]["machine"]
    assert finished.result["exports"] == {}
    validation = finished.result["best_on_validation"]["validation"]
    accuracies = {name: validation[f"{name}_accuracy"] for name in NETWORKS}
    assert accuracies[finished.result["best_peer"]] == max(accuracies.values())
    facts = state(finished.folder).facts
    assert (facts["epoch"], facts["batch"]) == (3, 0)
    assert facts["best_epoch"] == finished.result["best_on_validation"]["epoch"]
    assert facts["class_names"] == finished.result["class_names"]
    assert facts["history"] == metrics(finished.folder)


def test_the_flag_file_repeats_the_run_in_another_process_to_the_bit(finished, repeated):
    cwd, _ = repeated
    assert_equal_to_the_bit(finished.folder, cwd / "again")


def test_the_command_ends_with_the_test_accuracies_and_where_things_are(repeated):
    cwd, process = repeated
    result = json.loads((cwd / "again" / "result.json").read_text())
    report = process.stdout.split("test accuracy")[1]
    for name in ("teacher", "ensemble", *NETWORKS):
        last, best = (
            result[moment]["test"][f"{name}_accuracy"] for moment in ("last", "best_on_validation")
        )
        assert re.search(rf"\b{name} +{last:.2%} +{best:.2%}\n", report)
    assert "run: again (" in report
    for kind, suffix in {"teacher": "", "peer": "_peer", "ensemble": "_ensemble"}.items():
        place = f"exports/digits_tiny_networks_tiny{suffix}/1"
        assert f"exported {kind}: {place}\n" in report
        assert result["exports"][kind] == str(cwd.resolve() / place)  # from wherever one stands
        assert result["fingerprints"][kind] == exports.fingerprint(cwd / place)


def test_the_command_that_asks_about_a_picture_works_as_it_is_printed(
    repeated, monkeypatch, capsys
):
    cwd, process = repeated
    monkeypatch.chdir(cwd)
    line = process.stdout.splitlines()[-1]
    python, _, module, *words = shlex.split(line.removeprefix("ask it about a picture: "))
    assert (python, module) == ("python", "tf_cutnmix.predict")
    predict.main(command.parse(predict.Settings, words))
    assert capsys.readouterr().out.splitlines()[1].startswith("again/test_image.png ")
    picture = tf.io.decode_png((cwd / "again" / "test_image.png").read_bytes())
    np.testing.assert_array_equal(picture, data.load("digits", "test[:1]").pixels[0])


@pytest.mark.usefixtures("eagerly")
def test_an_export_that_fails_costs_nothing_that_was_earned(tmp_path, capsys):
    (tmp_path / "exports").mkdir()
    in_its_way = tmp_path / "exports" / "digits_tiny_networks_tiny"
    in_its_way.touch()
    folder = tmp_path / "run"
    places = {"workdir": str(folder), "export": "teacher", "export_dir": str(in_its_way.parent)}
    with pytest.raises(RunError, match=rf"cannot write .*; all else of .* --run={folder} exports"):
        train.main(Config(**{**ALONE, **places, "steps": 2}))
    printed = capsys.readouterr().out
    assert "test accuracy" in printed
    assert "(--steps=2 ended it; --resume without that goes on)\n" in printed
    assert f"page: {folder}/run.html\n" in printed
    assert {"run.html", "predictions.npz"} < {path.name for path in folder.iterdir()}
    result = json.loads((folder / "result.json").read_text())
    assert result["exports"] == {}
    assert result["wall_seconds"] > 0
    in_its_way.unlink()
    export.main(export.Settings(str(folder), trust_code=True))
    assert (in_its_way / "1" / "saved_model.pb").exists()
    assert exports.find(str(folder), "x").resolve() == (in_its_way / "1").resolve()


@pytest.mark.parametrize("kind", ["teacher", "peer", "ensemble"])
def test_an_export_holds_its_networks_alone_and_has_the_test_accuracy_of_the_run(
    repeated, kind, capsys, training_images
):
    cwd, _ = repeated
    result = json.loads((cwd / "again" / "result.json").read_text())
    path = str(cwd / result["exports"][kind])
    evaluate.main(evaluate.Settings(path, split="test[:200]"))
    printed = json.loads(capsys.readouterr().out)
    test = result["best_on_validation"]["test"]
    name = result["best_peer"] if kind == "peer" else kind
    assert printed["images"] == 200
    assert printed["accuracy"] == pytest.approx(test[f"{name}_accuracy"], abs=1e-6)
    if kind == "teacher":
        assert printed["negative_log_likelihood"] == pytest.approx(test["loss"], rel=1e-4)
    variables = len(model_of(training_images, ALONE).peers[0].variables)
    exported = tf.saved_model.load(path)
    exported_variables = exported.signatures["serving_default"].variables
    assert len(exported_variables) == (1 if kind == "peer" else 2) * variables


@pytest.fixture(scope="module")
def resumed(tmp_path_factory) -> Run:
    """The run of `finished`, interrupted within its second epoch."""
    folder = tmp_path_factory.mktemp("resumed") / "run"
    cut_short = run(folder, steps=6)
    assert cut_short.result["last"]["step"] == 6
    assert progress_of(folder) == (1, 2)
    return run(folder, resume=True)


def test_a_resumed_run_equals_one_without_interruption_to_the_bit(finished, resumed):
    assert_equal_to_the_bit(finished.folder, resumed.folder)
    for moment in ("last", "best_on_validation", "best_peer", "parameters"):
        assert resumed.result[moment] == finished.result[moment]


def test_tensorboard_shows_each_epoch_of_a_resumed_run_once(resumed):
    for kind in ("train", "validation"):
        files = list((resumed.folder / "tensorboard" / kind).glob("events.*"))
        records = [record for file in files for record in tf.data.TFRecordDataset(str(file))]
        shown = [tf.compat.v1.Event.FromString(record.numpy()) for record in records]
        steps = [e.step for e in shown for value in e.summary.value if value.tag == "epoch_loss"]
        assert steps == [0, 1, 2]


def test_kernels_of_other_last_bits_are_named_with_the_machine(monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    plain = results.versions()["machine"]
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert results.versions()["machine"] == f"{plain}, TF_ENABLE_ONEDNN_OPTS=0"


def test_a_finished_run_whose_result_is_damaged_writes_it_anew(resumed):
    (resumed.folder / "result.json").write_text('["another", "version"]')
    again = run(resumed.folder, resume=True)
    assert again.result["last"] == resumed.result["last"]


def test_a_finished_run_is_resumed_without_training_and_its_figures_are_of_the_whole_run(
    resumed, tmp_path
):
    before = state(resumed.folder), metrics(resumed.folder)
    exports = {"export": "peer", "export_dir": str(tmp_path / "exports")}
    again = run(resumed.folder, resume=True, **exports)
    np.testing.assert_equal(state(resumed.folder), before[0])
    assert metrics(resumed.folder) == before[1]
    once_more = run(resumed.folder, resume=True, **exports)
    assert once_more.result["exports"] == again.result["exports"]
    assert [path.name for path in (tmp_path / "exports").glob("*/*")] == ["1"]
    for moment in ("last", "best_on_validation", "best_peer"):
        assert again.result[moment] == resumed.result[moment]
    rates = [row["images_per_second"] for row in before[1][1:]]
    assert again.result["images_per_second"] == round(float(np.median(rates)), 1)
    assert again.result["wall_seconds"] > before[0].facts["seconds"] > 0


@pytest.mark.usefixtures("eagerly")
def test_overwriting_with_another_seed_leaves_nothing_of_the_earlier_run(tmp_path):
    """Both are of a peer alone, without validation: of it the last epoch counts."""
    folder = tmp_path / "run"
    alone = run(folder, ALONE)
    assert not state(folder).best
    assert alone.result["best_on_validation"] == alone.result["last"]
    assert set(alone.result["last"]) == {"epoch", "step", "test", "train"}
    assert alone.result["last"]["epoch"] == 3
    for row in metrics(folder):
        terms = {"loss", "cross_entropy", "weight_decay"}
        assert set(row) == {"epoch", "images_per_second", "learning_rate", *terms}

    def first_kernel() -> np.ndarray:
        return next(v.ravel() for v in state(folder).values if v.shape == (3, 3, 3, 4))

    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    kernel = first_kernel()
    run(folder, ALONE, seed=1, epochs=2, overwrite=True)
    assert [row["epoch"] for row in metrics(folder)] == [1, 2]
    assert not set(before) & set(folder.glob("tensorboard/*/events*"))
    assert "--seed=1\n" in (folder / "flags.cfg").read_text()
    picture = folder / "mixed_batch.png"
    own = [tf.io.decode_png(png)[:100] for png in (picture.read_bytes(), before[picture])]
    assert np.any(own[0] != own[1])
    assert abs(np.corrcoef(kernel, first_kernel())[0, 1]) < 0.5


@pytest.mark.usefixtures("eagerly")
def test_divergence_names_step_and_term_and_leaves_the_epoch_before(tmp_path):
    # Each step multiplies the weights by 1 - learning_rate * weight_decay = -9.
    explosive = {"weight_decay": 10.0, "learning_rate": 1.0, "momentum": 0.0}
    with pytest.raises(DivergenceError, match=r"^step \d+: the .* is not finite") as caught:
        run(tmp_path, ALONE, precision="mixed_bfloat16", epochs=9, **explosive)
    step = int(re.findall(r"\d+", str(caught.value))[0])
    whole_epochs = step // STEPS_PER_EPOCH
    assert whole_epochs >= 1
    assert len(metrics(tmp_path)) == whole_epochs
    assert progress_of(tmp_path) == (whole_epochs, 0)
    assert all(np.all(np.isfinite(value)) for value in state(tmp_path).values)
    assert keras.config.dtype_policy().name == "float32"
    at_once = tmp_path / "at_once"
    words = r"^step [12]: the \w+ of the loss is not finite; .*: .*; --overwrite begins anew in"
    with pytest.raises(DivergenceError, match=words):
        run(at_once, ALONE, learning_rate=1e30)
    assert not (at_once / "checkpoints").exists()
    run(at_once, ALONE, epochs=1, overwrite=True)
    assert np.isfinite(metrics(at_once)[0]["loss"])


@pytest.mark.parametrize("method", ["dlb", "kdcl_general"])
@pytest.mark.slow
def test_a_method_that_remembers_goes_on_as_if_there_had_been_no_break(method, tmp_path):
    settings = {"method": method, "epochs": 2}
    whole = run(tmp_path / "whole", **settings)
    run(tmp_path / "broken", **settings, steps=STEPS_PER_EPOCH)
    run(tmp_path / "broken", **settings, resume=True)
    assert_equal_to_the_bit(whole.folder, tmp_path / "broken")
