"""A step that is not finite is not taken."""

import contextlib
import random

import keras
import numpy as np
import pytest

from tests.distillation.small_models import (
    CLASSES,
    adapters_of,
    assert_same_state,
    batch_of,
    compiled,
    images_of,
    labels_of,
    regularised,
    sgd,
    small_distiller,
    state_of,
    train,
    values_of,
)
from tf_cutnmix import OnlineDistiller
from tf_cutnmix.errors import DivergenceError


def square_root_network() -> keras.Model:
    """On black images its features are 0, where their gradient is not finite."""
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False)(images)
    features = keras.ops.sqrt(keras.ops.mean(keras.ops.relu(x), axis=(1, 2)))
    logits = keras.layers.Dense(CLASSES)(features)
    return keras.Model(images, {"features": features, "logits": logits})


@pytest.mark.long
@pytest.mark.parametrize(
    "how",
    [
        "eager",
        "xla",
        *(pytest.param(h, marks=pytest.mark.slow) for h in ("graph", "mixed_float16")),
    ],
)
def test_a_step_that_is_not_finite_changes_nothing_nor_does_any_after_it(how, policy):
    if how == "mixed_float16":
        policy(how)
    model = compiled(regularised(), run_eagerly=how == "eager", jit_compile=how == "xla")
    train(model, steps=2)
    before = state_of(model)
    images, labels = batch_of(2)
    images[1, 3, 3, 0] = np.nan
    words = "step 2: the pixel of an image is not finite.* Images are finite numbers$"
    with pytest.raises(DivergenceError, match=words):
        model.train_on_batch(images, labels)
    assert np.all(np.isfinite([metric.result() for metric in model.loss_metrics]))
    assert_same_state(model, before)
    with pytest.raises(DivergenceError, match=words):
        train(model, steps=1, seed=10)
    assert_same_state(model, before)


def test_gradients_that_never_are_finite_again_end_training_in_mixed_float16(policy):
    policy("mixed_float16")
    model = compiled(OnlineDistiller([square_root_network()], method="independent"))
    black, labels = np.zeros((4, 8, 8, 3), np.uint8), labels_of(4)
    for _ in range(25):
        model.train_on_batch(black, labels)
    # A few overflows are how the scale is found.
    with pytest.raises(DivergenceError, match="gradient of many steps is not finite"):
        model.fit(np.repeat(black, 2, axis=0), np.repeat(labels, 2), batch_size=4, verbose=0)
    assert all(np.all(np.isfinite(value)) for value in values_of(model))


def test_fit_stops_at_a_learning_rate_that_is_too_large():
    model = compiled(small_distiller(), rate=1e30)
    images, labels = images_of(12), labels_of(12)
    with pytest.raises(DivergenceError, match=r"step 1: the \w+ of the loss is not finite"):
        model.fit(images, labels, batch_size=4, epochs=3, verbose=0)
    assert int(model.step.value) == 1
    assert all(np.all(np.isfinite(value)) for value in values_of(model))


def test_fit_stops_within_a_long_epoch():
    images, labels = images_of(120).astype("float32"), labels_of(120)
    images[6] = np.nan
    model = compiled(small_distiller(), jit_compile=False)
    batches = []
    count = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda b, logs: batches.append(b))
    with pytest.raises(DivergenceError, match="step 6"):
        model.fit(images, labels, 1, shuffle=False, verbose=0, callbacks=[count])
    assert len(batches) < 60


def poisoned(part: str) -> OnlineDistiller:
    model = compiled(small_distiller())
    variable = {
        "teacher": model.averages[1].variables[0],
        "feature": adapters_of(model)[0].kernel,
        "cross_entropy": model.peers[0].trainable_variables[0],
    }[part]
    variable.assign(np.full(variable.shape, np.nan))
    return model


@pytest.mark.parametrize("term", ["cross_entropy", "teacher", "feature"])
def test_the_error_names_the_step_and_the_term(term):
    with pytest.raises(DivergenceError, match=f"step 0: the {term} of the loss is not finite"):
        poisoned(term).fit(*batch_of(0), verbose=0)


def test_a_gradient_that_is_not_finite_is_noticed_though_the_loss_is_finite():
    random.seed(0)
    model = compiled(OnlineDistiller([square_root_network(), square_root_network()]))
    train(model, steps=1)
    before = state_of(model)
    with pytest.raises(DivergenceError, match="step 1: the gradient of the loss is not finite"):
        model.fit(np.zeros((4, 8, 8, 3), "float32"), labels_of(4), verbose=0)
    assert_same_state(model, before)


def test_a_loss_scale_that_is_too_large_is_lowered_and_is_no_divergence(policy):
    policy("mixed_float16")
    model = small_distiller()
    optimizer = keras.optimizers.LossScaleOptimizer(sgd(), initial_scale=2.0**40)
    model.compile(optimizer, run_eagerly=True)
    before = model.peers[0].trainable_variables[0].numpy()
    train(model, steps=1)
    model.check_finite()
    assert float(optimizer.dynamic_scale.value) == 2.0**39
    np.testing.assert_array_equal(model.peers[0].trainable_variables[0], before)


@pytest.mark.parametrize(("bad", "value"), [(0, np.nan), (1, np.inf), (2, -np.inf)])
def test_the_first_bad_step_is_the_one_that_is_named(bad, value):
    model = compiled(small_distiller())
    for step in range(4):
        images, labels = batch_of(step)
        if step >= bad:
            images[0] = value
        with contextlib.suppress(DivergenceError):
            model.train_on_batch(images, labels)
    assert int(model.step.value) == bad
    with pytest.raises(DivergenceError, match=f"step {bad}:"):
        model.check_finite()


def test_a_later_failure_does_not_replace_the_first_one():
    model = poisoned("feature")
    images, labels = batch_of(0)
    for factor in (1.0, np.nan):
        with contextlib.suppress(DivergenceError):
            model.train_on_batch(factor * images, labels)
    with pytest.raises(DivergenceError, match="step 0: the feature"):
        model.check_finite()


def test_a_healthy_run_has_nothing_to_report(trained):
    trained.check_finite()
