"""The soup of a run: scored as the others are, exported as it was scored."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from tests.runs.short_runs import SMALL, Run, run
from tf_cutnmix import data, export, train
from tf_cutnmix.errors import InputError
from tf_cutnmix.reporting import run_page, runs
from tf_cutnmix.runs import predictions
from tf_cutnmix.runs.config import Config

# How peers are drawn together under XLA is tested where the pull is.
pytestmark = [pytest.mark.usefixtures("all_eagerly"), pytest.mark.long]

PULLED = {**SMALL, "epochs": 2, "pull_every": 1, "mix": "none", "weights": "teacher=0,feature=0"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    return run(tmp_path_factory.mktemp("pulled") / "run", PULLED)


def said(folder: pathlib.Path) -> dict[str, np.ndarray]:
    return predictions.read(folder / "predictions.npz").probabilities


def test_it_is_scored_on_each_split_at_each_moment_as_the_others_are(finished):
    for moment in ("last", "best_on_validation"):
        for split in ("validation", "test"):
            found = finished.result[moment][split]
            kinds = {name.removeprefix("peer1_") for name in found if name.startswith("peer1_")}
            assert kinds == {n.removeprefix("soup_") for n in found if n.startswith("soup_")}
    labels = data.load("digits", "test[:200]").labels
    accuracy = np.mean(said(finished.folder)["soup"].argmax(axis=1) == labels)
    assert finished.result["best_on_validation"]["test"]["soup_accuracy"] == accuracy


def test_it_is_none_of_the_other_networks(finished):
    networks = said(finished.folder)
    assert not any(
        np.allclose(networks["soup"], answer) for name, answer in networks.items() if name != "soup"
    )


def test_its_export_answers_as_it_was_scored(finished, tmp_path):
    export.main(export.Settings(str(finished.folder), export="soup", export_dir=str(tmp_path)))
    version = tmp_path / f"{finished.config.name}_soup" / "1"
    images = data.load("digits", "test[:200]").pixels
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    answers = served(images=tf.constant(images))["probabilities"].numpy()
    np.testing.assert_allclose(answers, said(finished.folder)["soup"], atol=1e-5)
    card = (version / "MODEL_CARD.md").read_text()
    assert "one network of the mean weights of the 2 peers" in card
    assert f"| {finished.result['best_on_validation']['test']['soup_accuracy']:.2%} |" in card


def test_the_end_of_the_run_its_page_and_reports_tell_of_it(finished):
    accuracy = finished.result["best_on_validation"]["test"]["soup_accuracy"]
    (line,) = (
        one
        for one in train.summary(finished.config, finished.result).splitlines()
        if one.startswith("  soup")
    )
    assert line.endswith(f"{accuracy:.2%}")
    read = runs.read(finished.folder, lambda _: finished.config)
    assert read.figures["best_soup_accuracy"] == accuracy
    fact = f"<dt>Soup, test accuracy</dt><dd>{accuracy:.2%}</dd>"
    assert fact in run_page.write(finished.folder, finished.config).read_text()


def test_a_resumed_run_has_the_same(finished, tmp_path):
    run(tmp_path / "run", PULLED, steps=3)
    resumed = run(tmp_path / "run", PULLED, resume=True)
    np.testing.assert_array_equal(said(resumed.folder)["soup"], said(finished.folder)["soup"])
    for moment in ("last", "best_on_validation"):
        assert resumed.result[moment] == finished.result[moment]


def test_without_a_pull_there_is_none_to_export():
    with pytest.raises(InputError, match="--export=soup is of peers that are drawn together"):
        Config(export="teacher,soup")
