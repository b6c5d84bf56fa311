"""The optimizer of a run."""

import keras
import numpy as np

from tf_cutnmix.runs import optimizer
from tf_cutnmix.runs.config import Config


def test_what_is_below_the_classifiers_learns_at_its_own_rate_on_the_same_schedule():
    settings = {"schedule": "step", "learning_rate": 0.4, "momentum": 0.5}
    gradients = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    below, above = keras.Variable(np.ones(3)), keras.Variable(np.ones(3))
    config = Config(**settings, epochs=8, learning_rate_backbone=0.1)
    built = optimizer.build(config, 1, [below])
    for gradient in gradients:
        built.apply([gradient, gradient], [below, above])
    for variable, rate in ((below, 0.1), (above, 0.4)):
        value, velocity = np.ones(3), np.zeros(3)
        for step, gradient in enumerate(gradients):
            now = rate * (1 if step < 4 else 0.1 if step < 6 else 0.01)
            velocity = 0.5 * velocity - now * gradient
            value = value + 0.5 * velocity - now * gradient
        np.testing.assert_allclose(variable, value, rtol=1e-5)


def test_without_a_rate_of_its_own_it_learns_as_the_classifiers_do():
    assert type(optimizer.build(Config(), 8, [])) is keras.optimizers.SGD


def test_a_variable_that_the_loss_does_not_depend_on_stays_as_it_is():
    below, unused = keras.Variable(np.ones(3)), keras.Variable(np.ones(3))
    built = optimizer.build(Config(learning_rate_backbone=0.01), 1, [below, unused])
    built.apply([np.ones(3, "float32"), None], [below, unused])
    assert np.all(np.asarray(below) < 1)
    np.testing.assert_array_equal(unused, 1)
