"""How much ramped terms count, by the clock and by fit, against NumPy and closed forms."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import entr, log_softmax

from tests.distillation.small_models import CLASSES, compiled, images_of, small_distiller
from tf_cutnmix import Method
from tf_cutnmix.distillation import ramp
from tf_cutnmix.runs import config

seeds = st.integers(0, 2**32 - 1)


def test_the_ramp_follows_its_formula() -> None:
    steps, expected = [0, 20, 40, 80, 81, 10**9], [np.exp([-5, -5 * 0.75**2, -5 / 4]), [1, 1, 1]]
    found = [ramp.by_time(tf.constant(step, tf.int64), 80) for step in steps]
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-6)
    assert ramp.by_time(tf.constant(0, tf.int64), 0) == 1


def random_batch(seed: int, classes: int, rows: int = 6) -> tuple[np.ndarray, list[np.ndarray]]:
    """Soft labels, every third row without one, and the logits of two peers."""
    random = np.random.default_rng(seed)
    labels = random.dirichlet(np.full(classes, 0.3), rows).astype(np.float32)
    labels[::3] = 0
    # Some know the labels: else p is 0 everywhere.
    knowing = np.log(labels + 0.05)
    return labels, [(knowing + random.normal(0, 0.3, knowing.shape)).astype("f4") for _ in "ab"]


def expected_weight(name: str, labels: np.ndarray, logits: list[np.ndarray]) -> float:
    """The formula of the issue, row by row in float64."""
    of_labelled = [k for k in range(len(labels)) if labels[k].sum() > 0]
    crosses = [-labels[k] @ log_softmax(z[k].astype("f8")) for k in of_labelled for z in logits]
    entropy = np.mean([entr(labels[k].astype("f8")).sum() for k in of_labelled])
    excess, uniform = np.mean(crosses) - entropy, np.log(labels.shape[1])
    scale = {"fit_nats": 3.0, "fit_first": uniform - entropy}.get(name, uniform)
    p = np.clip(1 - excess / scale, 0, 1)
    return np.exp(-(8 if name == "fit_steep" else 5) * (1 - p) ** 2)


@pytest.mark.parametrize(
    ("name", "classes"), [*((name, 10) for name in ramp.FITS), ("fit", 2), ("fit", 100)]
)
def test_the_fit_is_that_of_numpy_eagerly_and_compiled(name: str, classes: int) -> None:
    def weight(labels: tf.Tensor, logits: list[tf.Tensor]) -> tf.Tensor:
        return ramp.by_fit(ramp.FITS[name], labels, logits)

    labels, logits = random_batch(3, classes)
    arguments = tf.constant(labels), [tf.constant(z) for z in logits]
    expected = expected_weight(name, labels, logits)
    assert expected > 0.05
    np.testing.assert_allclose(weight(*arguments), expected, rtol=1e-5)
    np.testing.assert_allclose(tf.function(weight, jit_compile=True)(*arguments), expected, 1e-5)


@pytest.mark.parametrize("name", ramp.FITS)
def test_whoever_knows_nothing_has_the_least_weight_and_whoever_knows_all_the_whole(name) -> None:
    fit, labels = ramp.FITS[name], tf.constant(random_batch(0, 10)[0])
    known = tf.math.log(labels + 1e-12)
    np.testing.assert_allclose(ramp.by_fit(fit, labels, [known, known]), 1.0, rtol=1e-5)
    wrong = tf.one_hot(tf.argmin(labels, axis=-1), 10) * 50.0
    for nothing in (wrong, *([tf.zeros_like(labels)] if fit.of_the_labels else [])):
        least = ramp.by_fit(fit, labels, [nothing])
        np.testing.assert_allclose(least, np.exp(-fit.exponent), rtol=1e-4)
    unlabelled = ramp.by_fit(fit, tf.zeros_like(labels), [known])
    np.testing.assert_allclose(unlabelled, np.exp(-fit.exponent), rtol=1e-6)


@given(seeds)
def test_rows_without_a_label_change_nothing(seed: int) -> None:
    labels, logits = random_batch(seed, 4)
    kept = labels.sum(-1) > 0
    whole = ramp.by_fit(ramp.Fit(), tf.constant(labels), logits)
    part = ramp.by_fit(ramp.Fit(), tf.constant(labels[kept]), [z[kept] for z in logits])
    np.testing.assert_allclose(whole, part, rtol=1e-5)


def test_the_weight_has_no_gradient() -> None:
    labels, logits = random_batch(1, 4)
    logits = [tf.constant(z) for z in logits]
    with tf.GradientTape() as tape:
        tape.watch(logits)
        weight = ramp.by_fit(ramp.Fit(), tf.constant(labels), logits)
    assert tape.gradient(weight, logits) == [None, None]


def test_a_step_weighs_its_terms_by_fit_whatever_samples_and_classes_count() -> None:
    """Soft labels; the first step's loss has the terms of a ramp of 1 times what is logged."""
    random = np.random.default_rng(0)
    images, labels = images_of(4), random.dirichlet(np.ones(CLASSES), 4).astype("f4")
    runs = {}
    for name, settings_, weights in (
        ("whole", {}, None),
        ("fit", {"fit": "fit"}, None),
        ("weighted", {"fit": "fit", "class_weights": range(1, CLASSES + 1)}, np.arange(4.0)),
    ):
        model = compiled(small_distiller(method=Method("cutnmix", {"mutual": 1.0}, **settings_)))
        runs[name] = model.train_on_batch(images, labels, sample_weight=weights, return_dict=True)
    weight = runs["fit"]["ramp"]
    assert 0 < weight < 0.99
    for term in ("teacher", "feature", "mutual"):
        np.testing.assert_allclose(runs["fit"][term], weight * runs["whole"][term], rtol=1e-5)
    assert runs["fit"]["cross_entropy"] == runs["whole"]["cross_entropy"]
    np.testing.assert_allclose(runs["weighted"]["ramp"], weight, rtol=1e-6)
    assert "ramp" not in runs["whole"]


def test_the_settings_know_the_fits() -> None:
    assert set(config.FITS) == set(ramp.FITS)
