"""Methods as lists of terms: the whole loss against NumPy, switches, ramp and errors."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from tf_cutnmix import Method
from tf_cutnmix.errors import InputError
from tf_cutnmix.methods import METHODS, Forward

BATCH, CLASSES = 4, 5
SIZES = (6, 3, 8)


def random_forward(seed: int = 0, sizes: tuple[int, ...] = SIZES) -> Forward:
    """One step of peers with these feature sizes."""
    generator = np.random.default_rng(seed)

    def normal(columns: int) -> tf.Tensor:
        return tf.constant(generator.normal(0, 2, (BATCH, columns)), tf.float32)

    peers = range(len(sizes))
    return Forward(
        labels=tf.constant(generator.dirichlet(np.ones(CLASSES), BATCH), tf.float32),
        logits=[normal(CLASSES) for _ in peers],
        features=[normal(size) for size in sizes],
        adapted={(k, j): normal(sizes[j]) for k in peers for j in peers if k != j},
        teacher_logits=[normal(CLASSES) for _ in peers],
    )


def terms_in_numpy(forward: Forward, temperature: float) -> dict[str, float]:
    """The three sums of the design, not weighted, in float64."""

    def double(tensor: tf.Tensor) -> np.ndarray:
        return tensor.numpy().astype(np.float64)

    def unit(tensor: tf.Tensor) -> np.ndarray:
        return double(tensor) / np.linalg.norm(double(tensor), axis=-1, keepdims=True)

    n = len(forward.logits)
    teacher = sum(softmax(double(z) / temperature, axis=-1) for z in forward.teacher_logits) / n
    totals = {"cross_entropy": 0.0, "teacher": 0.0, "feature": 0.0}
    for k in range(n):
        z = double(forward.logits[k])
        totals["cross_entropy"] -= np.mean(np.sum(double(forward.labels) * log_softmax(z, -1), -1))
        ratio = np.log(teacher) - log_softmax(z / temperature, -1)
        totals["teacher"] += temperature**2 * np.mean(np.sum(teacher * ratio, -1))
        distances = [
            np.mean(np.sum((unit(forward.adapted[k, j]) - unit(forward.features[j])) ** 2, -1))
            for j in range(n)
            if j != k
        ]
        totals["feature"] += np.mean(distances) if distances else 0.0
    return totals


def loss_at(method: Method, step: int, forward: Forward) -> dict[str, float]:
    terms = method.loss(forward, tf.constant(step, tf.int64))
    return {name: float(value) for name, value in terms.items()}


def assert_terms(found: dict[str, float], expected: dict[str, float]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.01, 10),
    st.floats(0.01, 10),
    st.floats(1.0, 6.0),
)
def test_cutnmix_of_three_unlike_peers_is_the_loss_of_the_design(
    seed, teacher_weight, feature_weight, temperature
):
    forward = random_forward(seed)
    method = Method("cutnmix", teacher_weight, feature_weight, temperature)
    plain = terms_in_numpy(forward, temperature)
    expected = {
        "cross_entropy": plain["cross_entropy"],
        "teacher": teacher_weight * plain["teacher"],
        "feature": feature_weight * plain["feature"],
    }
    assert_terms(loss_at(method, 0, forward), expected)


@pytest.mark.parametrize("sizes", [(4,), (4, 7), (5, 5, 5, 2)])
def test_cutnmix_of_any_number_of_peers_is_the_loss_of_the_design(sizes):
    forward = random_forward(1, sizes)
    assert_terms(loss_at(Method(temperature=3.0), 0, forward), terms_in_numpy(forward, 3.0))


def test_a_single_peer_has_no_feature_loss():
    assert loss_at(Method(), 0, random_forward(sizes=(4,)))["feature"] == 0.0


@pytest.mark.parametrize("step", [0, 30, 100, 1000])
def test_the_ramp_scales_the_teacher_and_the_feature_term_only(step):
    forward = random_forward(2)
    plain = terms_in_numpy(forward, 3.0)
    ramp = np.exp(-5 * (1 - min(step, 100) / 100) ** 2)
    expected = {
        "cross_entropy": plain["cross_entropy"],
        "teacher": ramp * plain["teacher"],
        "feature": ramp * plain["feature"],
    }
    assert_terms(loss_at(Method(ramp_steps=100), step, forward), expected)


def test_independent_peers_have_their_cross_entropy_alone():
    forward = random_forward(3)
    method = Method("independent", teacher_weight=5.0, feature_weight=5.0, ramp_steps=100)
    expected = {"cross_entropy": terms_in_numpy(forward, 3.0)["cross_entropy"]}
    assert_terms(loss_at(method, 0, forward), expected)
    assert not method.uses_teacher
    assert not method.uses_adapters


@pytest.mark.parametrize(
    ("teacher_weight", "feature_weight", "names"),
    [
        (1.0, 1.0, ["cross_entropy", "teacher", "feature"]),
        (0.0, 1.0, ["cross_entropy", "feature"]),
        (1.0, 0.0, ["cross_entropy", "teacher"]),
        (0.0, 0.0, ["cross_entropy"]),
    ],
)
def test_a_weight_of_zero_switches_its_term_off(teacher_weight, feature_weight, names):
    method = Method("cutnmix", teacher_weight, feature_weight)
    assert list(loss_at(method, 0, random_forward())) == names
    assert method.uses_teacher == ("teacher" in names)
    assert method.uses_adapters == ("feature" in names)


def test_a_term_that_is_off_needs_no_inputs():
    forward = random_forward()._replace(adapted={}, teacher_logits=[])
    assert list(loss_at(Method("independent"), 0, forward)) == ["cross_entropy"]
    assert list(loss_at(Method("cutnmix", 0.0, 0.0), 0, forward)) == ["cross_entropy"]


def test_no_term_teaches_the_teacher_or_the_target_features():
    forward = random_forward()
    method = Method()
    with tf.GradientTape() as tape:
        tape.watch([forward.teacher_logits, forward.features, forward.logits])
        terms = method.loss(forward, tf.constant(0))
        total = tf.add_n(list(terms.values()))
    teacher, features, logits = tape.gradient(
        total, [forward.teacher_logits, forward.features, forward.logits]
    )
    assert teacher == [None] * 3
    assert features == [None] * 3
    assert all(np.any(gradient) for gradient in logits)


@pytest.mark.parametrize(
    ("name", "nearest"), [("cutnmixx", "cutnmix"), ("CutNmix", "cutnmix"), ("indep", "independent")]
)
def test_an_unknown_method_is_refused_with_the_nearest_one(name, nearest):
    with pytest.raises(InputError, match=f"did you mean '{nearest}'") as error:
        Method(name)
    assert repr(name) in str(error.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("temperature", 0.0),
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("teacher_weight", -0.1),
        ("teacher_weight", float("nan")),
        ("feature_weight", -0.1),
        ("ramp_steps", -1),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=f"{setting} must be .* Received: {value}"):
        Method(**{setting: value})


@pytest.mark.parametrize("name", METHODS)
def test_the_config_makes_an_equal_method(name):
    method = Method(name, teacher_weight=0.5, feature_weight=0.25, temperature=4.0, ramp_steps=7)
    assert Method(**method.get_config()) == method


def test_a_method_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Method().temperature = 1.0
