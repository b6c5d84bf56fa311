"""Accuracy, likelihood, calibration and diversity, against SciPy, scikit-learn and loops."""

import json

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics

from tf_cutnmix.runs import scores


def random_case(
    count: int, classes: int, scale: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, their probabilities, and labels."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, classes)) * scale
    return logits, scipy.special.softmax(logits, axis=1), random.integers(0, classes, count)


def calibration_error_by_loop(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> float:
    total = 0.0
    for b in range(bins):
        inside = []
        for row, label in zip(probabilities, labels, strict=True):
            if b / bins < max(row) <= (b + 1) / bins:
                inside.append((np.argmax(row) == label, max(row)))
        if inside:
            accuracy, confidence = np.mean(inside, axis=0)
            total += len(inside) / len(labels) * abs(accuracy - confidence)
    return total


def test_figures_are_those_of_scipy_and_scikit_learn() -> None:
    logits, probabilities, labels = random_case(300, 12, scale=1.0)
    figures = scores.scores(probabilities, labels)
    assert (figures["images"], figures["classes"]) == (300, 12)
    assert json.loads(json.dumps(figures)) == figures
    logarithms = scipy.special.log_softmax(logits, axis=1)[np.arange(300), labels]
    assert figures["negative_log_likelihood"] == pytest.approx(-np.mean(logarithms))
    five = sklearn.metrics.top_k_accuracy_score(labels, probabilities, k=5)
    assert figures["top5_accuracy"] == pytest.approx(five)
    answers = probabilities.argmax(axis=1)
    balanced = sklearn.metrics.balanced_accuracy_score(labels, answers)
    assert figures["balanced_accuracy"] == pytest.approx(balanced)
    expected = sklearn.metrics.confusion_matrix(labels, answers, labels=range(12))
    np.testing.assert_array_equal(scores.confusion(probabilities, labels), expected)
    recall = sklearn.metrics.recall_score(labels, answers, average=None)
    np.testing.assert_allclose(scores.recall(probabilities, labels), recall)
    labels[labels == 3] = 4
    probabilities[:, [3, 7]] = 0
    answers = probabilities.argmax(axis=1)
    expected = sklearn.metrics.precision_recall_fscore_support(
        labels, answers, labels=range(12), zero_division=np.nan
    )
    precision, f1 = scores.precision_and_f1(probabilities, labels)
    assert np.isnan(precision[7])
    assert np.isnan(f1[3])
    np.testing.assert_allclose(precision, expected[0])
    np.testing.assert_allclose(f1, expected[2])


@hypothesis.given(count=st.integers(1, 10_000), part=st.floats(0, 1))
def test_the_interval_is_wilsons_in_closed_form(count: int, part: float) -> None:
    p, z = round(part * count) / count, scipy.stats.norm.ppf(0.975)
    middle = (p + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(p * (1 - p) / count + (z / (2 * count)) ** 2)
    ends = max(middle - half, 0), min(middle + half, 1)
    assert scores.interval(part, count) == pytest.approx(ends, abs=1e-9)


@hypothesis.given(
    classes=st.integers(2, 12),
    scale=st.floats(0.1, 10),
    bins=st.integers(1, 20),
    seed=st.integers(0, 1000),
)
def test_calibration_error_is_that_of_a_loop(classes, scale, bins, seed) -> None:
    _, probabilities, labels = random_case(60, classes, scale, seed)
    expected = calibration_error_by_loop(probabilities, labels, bins)
    assert scores.calibration_error(probabilities, labels, bins) == pytest.approx(expected)
    fifteen = calibration_error_by_loop(probabilities, labels, 15)
    assert scores.scores(probabilities, labels)["calibration_error"] == pytest.approx(fifteen)


@pytest.mark.parametrize("upper_edge", np.arange(8, 15) / 15)
def test_a_bin_holds_its_upper_edge(upper_edge: float) -> None:
    confidence = np.array([upper_edge, upper_edge + 1e-6])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    error = scores.calibration_error(probabilities, np.array([0, 1]))
    assert error == pytest.approx((1 - confidence[0] + confidence[1]) / 2)


def test_a_confidence_that_rounding_lifts_above_one_is_in_the_last_bin() -> None:
    above = np.nextafter(np.float32(1), np.float32(2))
    rows = np.array([[above, 0], [above, 0]], np.float32)
    assert scores.calibration_error(rows, np.array([0, 1])) == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("true", [0.5, 3.0])
def test_the_temperature_is_that_by_which_the_labels_were_drawn(true: float) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(40_000, 5)) * 2
    chances = scipy.special.softmax(logits, axis=1)
    labels = (random.random((40_000, 1)) > chances.cumsum(axis=1)).sum(axis=1).clip(max=4)
    predictions = scipy.special.softmax(logits * true, axis=1)
    assert scores.temperature(predictions, labels) == pytest.approx(true, rel=0.03)
    np.testing.assert_allclose(scores.soften(predictions, true), chances, rtol=1e-9)


def test_the_temperature_is_moderate_where_all_answers_are_right() -> None:
    """One image in two counts as labelled at random: 3/4 is likeliest, and `T = ln 9 / ln 3`."""
    found = scores.temperature(np.array([[0.9, 0.1]]), np.array([0]))
    assert found == pytest.approx(2, rel=1e-3)
    odd = scores.soften(np.array([[np.nan, np.nan], [0.3, 0.7]]), 2.0)
    assert np.isnan(odd).tolist() == [[True, True], [False, False]]


@hypothesis.given(
    st.lists(st.tuples(st.integers(51, 55), st.sampled_from(9 * [True] + [False])), min_size=1)
)
@hypothesis.example([(53, True), (53, False)])
@hypothesis.example([(55, False), *20 * [(54, True)], (53, False)])
def test_the_threshold_is_the_lowest_confidence_from_which_on_95_percent_are_right(
    predicted: list[tuple[int, bool]],
) -> None:
    percent, right = map(np.array, zip(*predicted, strict=True))
    surest = percent / 100
    found = scores.threshold(np.stack([surest, 1 - surest], axis=1), np.where(right, 0, 1))
    fitting = [c for c in surest if np.mean(right[surest >= c]) >= 0.95]
    assert found == (min(fitting) if fitting else 2.0)


def test_what_a_threshold_is_worth_is_measured_on_images_that_it_was_not_fitted_to() -> None:
    by_chance = []
    for seed in range(30):
        _, answers, labels = random_case(100, 2, scale=1.0, seed=seed)
        by_chance.append(scores.confident(answers, labels, 1.0)["right"])
    assert np.mean([right for right in by_chance if right is not None]) < 0.7
    true = scipy.special.softmax(np.random.default_rng(1).normal(size=(20_000, 4)) * 3, axis=1)
    labels = (np.random.default_rng(2).random((20_000, 1)) > true.cumsum(axis=1)).sum(axis=1)
    labels = labels.clip(max=3)
    softer = scores.soften(true, 2.0)
    found = scores.confident(softer, labels, 0.5)
    # Where the probabilities are true, those from some confidence on are right on average 95 %.
    surest = np.sort(true.max(axis=1))[::-1]
    kept = np.sum(np.cumsum(surest) >= 0.95 * np.arange(1, 20_001))
    assert found["kept"] == pytest.approx(kept / 20_000, abs=0.03)
    assert found["right"] == pytest.approx(0.95, abs=0.01)
    assert found["threshold"] == pytest.approx(surest[kept - 1], abs=0.05)


def test_diversity_is_the_mean_over_pairs_of_networks() -> None:
    probabilities = np.array(
        [
            [[0.9, 0.1], [0.2, 0.8]],
            [[0.6, 0.4], [0.7, 0.3]],
            [[0.1, 0.9], [0.2, 0.8]],
        ]
    )
    found = scores.diversity(probabilities)
    differ = [1 / 2, 1 / 2, 2 / 2]
    apart = np.sqrt(2) * np.array([(0.3 + 0.5) / 2, (0.8 + 0.0) / 2, (0.5 + 0.5) / 2])
    assert found["disagreement"] == pytest.approx(np.mean(differ))
    assert found["distance"] == pytest.approx(np.mean(apart))
    assert scores.diversity(probabilities[:1]) == {}


# What is no ordinary prediction


@pytest.mark.parametrize(("label", "top1", "top5"), [(0, 1, 1), (1, 0, 1), (4, 0, 1), (5, 0, 0)])
def test_of_equally_probable_classes_the_first_come_first(label: int, top1: int, top5: int) -> None:
    figures = scores.scores(np.full((1, 8), 0.125), np.array([label]))
    assert (figures["accuracy"], figures["top5_accuracy"]) == (top1, top5)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_a_wrong_answer_without_confidence(odd: float) -> None:
    rows, labels = np.array([[odd, 0.5], [0.75, 0.25]]), np.array([0, 0])
    figures = scores.scores(rows, labels)
    assert figures["accuracy"] == figures["top5_accuracy"] == 0.5
    assert figures["calibration_error"] == pytest.approx(0.25 / 2)
    assert figures["negative_log_likelihood"] == pytest.approx(-np.log(1e-30 * 0.75) / 2)
    np.testing.assert_array_equal(scores.confusion(rows, labels), [[1, 0], [0, 0]])
    assert scores.surest_mistakes(rows, labels).tolist() == [0]


def test_a_class_without_images_has_no_recall_and_does_not_count() -> None:
    probabilities = np.eye(3)[[0, 0, 1, 0]]
    labels = np.array([0, 0, 0, 1])
    np.testing.assert_equal(scores.recall(probabilities, labels), [2 / 3, 0, np.nan])
    assert scores.scores(probabilities, labels)["balanced_accuracy"] == pytest.approx(1 / 3)


def test_the_surest_mistakes_come_first() -> None:
    probabilities = np.array([[0.6, 0.4], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.45, 0.55]])
    labels = np.array([1, 0, 1, 0, 0])
    assert scores.surest_mistakes(probabilities, labels).tolist() == [1, 3, 0, 4]


@pytest.mark.parametrize(
    ("counts", "unbalanced"), [([3, 1], False), ([4, 1], True), ([1, 0], True)]
)
def test_unbalanced_is_over_three_times_as_many(counts: list[int], unbalanced: bool) -> None:
    assert scores.unbalanced(counts) == unbalanced
