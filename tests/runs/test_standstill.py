"""A run that learns nothing says so, and no run that learns does."""

import json
import pathlib

import numpy as np
import pytest

from tests.runs.short_runs import SMALL, run
from tf_cutnmix.runs.config import Config, with_defaults
from tf_cutnmix.runs.display import remedy
from tf_cutnmix.runs.standstill import standstill

STUDIES = pathlib.Path(__file__).parents[2] / "studies"
RESULTS = sorted(STUDIES.glob("*/results/**/metrics.jsonl"))


def told(cross_entropies, accuracies=None, *, shares=(0.5, 0.25, 0.25), peers=1, **settings):
    """What is said of epochs of 50 steps."""
    rows = [
        {"epoch": epoch, "cross_entropy": peers * cross_entropy}
        for epoch, cross_entropy in enumerate(cross_entropies, start=1)
    ]
    for row, own in zip(rows, accuracies or (), strict=bool(accuracies)):
        row |= {"val_loss": 1.0} | {f"val_{peer}_accuracy": part for peer, part in own.items()}
    return standstill(rows, steps_per_epoch=50, peers=peers, shares=shares, **settings)


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("answer", ["shares", "uniform"])
def test_one_answer_for_all_images_is_told_whatever_the_mixing(classes, answer):
    generator = np.random.default_rng(classes)
    counts = generator.integers(10**5 // classes, 10**6 // classes, classes)
    shares = counts / counts.sum()
    said = np.log(shares if answer == "shares" else np.full(classes, 1 / classes))
    epochs = []
    for _ in range(4):
        labels = generator.permutation(np.repeat(np.arange(classes), counts))
        part = generator.beta(1, 1, len(labels))
        partners = generator.permutation(labels)
        epochs.append(-np.mean(part * said[labels] + (1 - part) * said[partners]))
    assert "no lower than that of one answer" in told(epochs, shares=shares.tolist(), peers=3)
    assert told(epochs, shares=shares.tolist(), peers=3, held_out=[0] * classes)
    assert not told(epochs[:3], shares=shares.tolist(), peers=3)  # not yet
    assert not told(epochs, shares=shares.tolist(), from_step=101)


ENTROPY = 1.5 * np.log(2)  # of the shares 1/2, 1/4, 1/4


@pytest.mark.parametrize(
    ("epochs", "alarm"),
    [
        ([9.0, ENTROPY, ENTROPY, ENTROPY], True),
        ([9.0, 30.0, 8.0, 70.0], True),
        ([9.0, 1.2, 1.15, 1.1], False),  # above, and falling
        ([ENTROPY] * 3 + [0.99 * ENTROPY], False),
        ([2.0, 1.2, 1.02, 1.02], False),
    ],
)
def test_a_cross_entropy_that_is_below_or_falls_is_of_one_that_learns(epochs, alarm):
    assert bool(told(epochs)) == alarm


def test_who_is_right_more_often_than_a_guess_learns_however_sure_of_the_rest():
    high = [2.0] * 4
    held_out = [100, 50, 50]
    for right, alarm in ((0.5, True), (0.55, True), (0.65, False)):
        looks = [{"peer1": 0.25, "peer2": right}] * 4
        assert bool(told(high, looks, peers=2, held_out=held_out)) == alarm


def test_one_peer_of_several_that_says_the_same_of_all_is_named():
    halves = [0.7 * ENTROPY] * 7
    looks = [{"peer1": 0.8, "peer2": part} for part in (0.3, 0.3, 0.25, 0.5, 0.25, 0.25, 0.25)]
    held_out = [100, 50, 50]
    assert "peer2 gives one answer for all" in told(halves, looks, peers=2, held_out=held_out)
    assert not told(halves[:6], looks[:6], peers=2, held_out=held_out)
    looks[5]["peer2"] = 0.255
    assert not told(halves, looks, peers=2, held_out=held_out)


def test_a_run_of_the_studies_is_told_only_if_it_ended_where_guessing_does():
    assert len(RESULTS) >= 355
    for path in RESULTS:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        result = json.loads((path.parent / "result.json").read_text())
        last, test = result["last"], result["last"]["test"]
        # Earlier results name no classes: the letters are of 100 typefaces.
        classes = 100 if "letters" in path.parts[-3] else 10
        counts = result.get("counts", {"train": [1] * classes})
        dead = test["teacher_accuracy"] < 1.1 / classes
        for end in range(1, len(rows) + 1):
            assert dead or not standstill(
                rows[:end],
                steps_per_epoch=last["step"] // last["epoch"],
                peers=sum(f"peer{number}_accuracy" in test for number in range(1, 9)),
                shares=[count / sum(counts["train"]) for count in counts["train"]],
                held_out=counts.get("validation", ()),
            ), path


def test_what_to_try_goes_by_how_the_run_learns():
    assert (
        remedy(with_defaults(Config(learning_rate=5.0)))
        == "stop and try another rate than --learning_rate=5"
    )
    tuned = {"weights_from": "imagenet", "freeze": "batchnorm", "learning_rate_backbone": 0.005}
    for words in ("--learning_rate_backbone=0.005", "no --freeze=batchnorm", "pixels of 0 to 255"):
        assert words in remedy(Config(**tuned, learning_rate=0.1))


@pytest.mark.long
@pytest.mark.parametrize(("rate", "lines"), [(5.0, 1), (0.05, 0)])
def test_a_rate_that_kills_the_networks_is_told_once(rate, lines, tmp_path, capsys):
    settings = {"method": "independent", "schedule": "constant", "epochs": 32}
    run(tmp_path, SMALL, **settings, learning_rate=rate, validation_every=8)
    printed = capsys.readouterr().out.splitlines()
    assert len([line for line in printed if line.startswith("nothing is learnt: ")]) == lines
