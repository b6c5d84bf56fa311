"""The distance of features in Cut^nMix's framework."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.distillation.arrays import (
    FEATURES,
    SAMPLES,
    gradient,
    random_features,
    seeds,
    unit,
)
from tf_cutnmix.distillation.methods import cutnmix


@given(seeds)
def test_feature_distance_is_two_minus_twice_the_cosine(seed):
    features, target = random_features(seed), random_features(seed + 1)
    cosine = np.sum(unit(features) * unit(target), axis=-1)
    found = cutnmix.feature_distance(features, target)
    np.testing.assert_allclose(found, np.mean(2 - 2 * cosine), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("sign", "expected"), [(3.0, 0.0), (-0.5, 4.0)])
def test_feature_distance_reaches_from_zero_to_four_whatever_the_lengths(sign, expected):
    features = random_features(0)
    found = cutnmix.feature_distance(features, np.float32(sign) * features)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@given(seeds, st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_feature_distance_lies_between_zero_and_four(seed, own_length, target_length):
    features, target = own_length * random_features(seed), target_length * random_features(seed + 1)
    found = float(cutnmix.feature_distance(features.astype("float32"), target.astype("float32")))
    assert -1e-6 <= found <= 4 + 1e-5


def test_the_gradient_of_feature_distance_is_orthogonal_to_the_features():
    features, target = random_features(0), random_features(1)
    found, _ = gradient(cutnmix.feature_distance, features, target)
    own, other = unit(features), unit(target)
    cosine = np.sum(own * other, axis=-1, keepdims=True)
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    np.testing.assert_allclose(found, -2 * (other - cosine * own) / length / SAMPLES, atol=1e-6)


def test_the_target_of_feature_distance_gets_no_gradient():
    _, found = gradient(cutnmix.feature_distance, random_features(0), random_features(1))
    assert found is None


def test_features_of_length_zero_have_a_finite_gradient():
    zeros = np.zeros((SAMPLES, FEATURES), np.float32)
    np.testing.assert_allclose(cutnmix.feature_distance(zeros, random_features(0)), 1.0, rtol=1e-6)
    found, _ = gradient(cutnmix.feature_distance, zeros, random_features(0))
    assert np.all(np.isfinite(found))
