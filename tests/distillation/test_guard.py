"""A step that is not finite is not taken; labels that are none and pixels of 0 to 1 are named."""

import contextlib
import random
import warnings

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
    small_network,
    state_of,
    train,
    values_of,
)
from tf_cutnmix import OnlineDistiller, build_network
from tf_cutnmix.errors import DivergenceError

IMAGES, LABELS = batch_of(0)


def square_root_network() -> keras.Model:
    """On black images its features are 0, where their gradient is not finite."""
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False)(images)
    features = keras.ops.sqrt(keras.ops.mean(keras.ops.relu(x), axis=(1, 2)))
    logits = keras.layers.Dense(CLASSES)(features)
    return keras.Model(images, {"features": features, "logits": logits})


def amplified_network() -> keras.Model:
    """A network that multiplies its images by one weight before it normalises them."""
    images = keras.Input((8, 8, 3))
    x = keras.layers.DepthwiseConv2D(1, use_bias=False, depthwise_initializer="ones")(images)
    features = keras.layers.GlobalMaxPooling2D()(keras.layers.BatchNormalization()(x))
    logits = keras.layers.Dense(CLASSES)(features)
    return keras.Model(images, {"features": features, "logits": logits})


# Steps that are not taken


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
    train(model, steps=1)
    before = state_of(model)
    images, labels = batch_of(2)
    images[1, 3, 3, 0] = np.nan
    words = "step 1: the pixel of an image is not finite.* Images are finite numbers$"
    with pytest.raises(DivergenceError, match=words):
        model.train_on_batch(images, labels)
    assert np.all(np.isfinite([metric.result() for metric in model.step_metrics]))
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


def test_a_loss_scale_that_is_too_large_is_lowered_and_is_no_divergence(policy):
    policy("mixed_float16")
    model = small_distiller()
    optimizer = keras.optimizers.LossScaleOptimizer(sgd(), initial_scale=2.0**40)
    model.compile(optimizer, run_eagerly=True)
    before = model.peers[0].trainable_variables[0].numpy()
    train(model, steps=1)
    assert float(optimizer.dynamic_scale.value) == 2.0**39
    np.testing.assert_array_equal(model.peers[0].trainable_variables[0], before)


def test_after_a_rate_that_is_too_large_a_model_that_is_compiled_again_trains():
    model = compiled(small_distiller(method="independent"), rate=1e30)
    images, labels = images_of(12), labels_of(12)
    words = r"step 1: the \w+ of the loss is not finite; .* Train again with a lower learning rate"
    with pytest.raises(DivergenceError, match=words):
        model.fit(images, labels, batch_size=4, epochs=3, verbose=0)
    assert int(model.step.value) == 1
    assert all(np.all(np.isfinite(value)) for value in values_of(model))
    for network, fresh in zip(model.peers, small_distiller().peers, strict=True):
        network.set_weights(fresh.get_weights())
    history = compiled(model, rate=0.01).fit(images, labels, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_fit_stops_within_a_long_epoch():
    images, labels = images_of(120).astype("float32"), labels_of(120)
    images[6] = np.nan
    model = compiled(small_distiller(method="independent"), jit_compile=False)
    batches = []
    count = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda b, logs: batches.append(b))
    with pytest.raises(DivergenceError, match="step 6"):
        model.fit(images, labels, 1, shuffle=False, verbose=0, callbacks=[count])
    assert len(batches) < 60


@pytest.mark.parametrize("term", ["cross_entropy", "teacher", "feature"])
def test_the_error_names_the_first_step_and_its_term(term):
    model = compiled(small_distiller())
    variable = {
        "teacher": model.averages[1].variables[0],
        "feature": adapters_of(model)[0].kernel,
        "cross_entropy": model.peers[0].trainable_variables[0],
    }[term]
    variable.assign(np.full(variable.shape, np.nan))
    for factor in (1.0, np.nan):
        with contextlib.suppress(DivergenceError):
            model.train_on_batch(factor * IMAGES, LABELS)
    words = f"step 0: the {term} of the loss is not finite; .*: look at the pixels, and at the weig"
    with pytest.raises(DivergenceError, match=words):
        model.check_finite()


def of_black_images(model: OnlineDistiller) -> np.ndarray:
    return np.zeros_like(IMAGES)


def amplified_in(owner: str):
    def images(model: OnlineDistiller) -> np.ndarray:
        weight = getattr(model, owner)[1].layers[1].weights[0]
        # The square of 1e20 is beyond float32; what is divided by its root is not.
        weight.assign(1e20 * np.ones(weight.shape))
        return IMAGES

    return images


@pytest.mark.parametrize(
    ("network", "images", "words"),
    [
        (square_root_network, of_black_images, "gradient of the loss"),
        (amplified_network, amplified_in("peers"), "statistic of BatchNormalization"),
        (amplified_network, amplified_in("averages"), "statistic of BatchNormalization"),
    ],
    ids=["gradient", "variance of a peer", "variance of an average"],
)
def test_a_step_of_a_finite_loss_is_not_taken_if_what_follows_is_not(network, images, words):
    random.seed(0)
    model = train(compiled(OnlineDistiller([network(), network()])), steps=1)
    unfit = images(model)
    before = state_of(model)
    with pytest.raises(DivergenceError, match=f"step 1: the {words} is not finite"):
        model.train_on_batch(unfit, LABELS)
    assert np.all(np.isfinite([metric.result() for metric in model.step_metrics]))
    assert_same_state(model, before)


# What is no label, and no weight


def independent(**how) -> OnlineDistiller:
    model = small_distiller(mixing=None, method="independent")
    model.compile(keras.optimizers.SGD(0.01), **how)
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture(scope="module")
def eager() -> OnlineDistiller:
    return independent(run_eagerly=True)


@pytest.fixture(scope="module")
def graph() -> OnlineDistiller:
    return independent(jit_compile=False)


@pytest.fixture(scope="module")
def xla() -> OnlineDistiller:
    """XLA drops every assertion."""
    return independent(jit_compile=True)


CALLS = {
    "fit": lambda model, x, y, w=None: model.fit(x, y, 2, verbose=0, sample_weight=w),
    "evaluate": lambda model, x, y, w=None: model.evaluate(x, y, 2, 0, sample_weight=w),
    "train_on_batch": lambda model, x, y, w=None: model.train_on_batch(x, y, w),
    "predict": lambda model, x, y, w=None: model.predict(x, 2, 0),
    "test_on_batch": lambda model, x, y, w=None: model.test_on_batch(x, y, w),
}


@pytest.mark.parametrize(
    ("how", "call", "label"),
    [
        *[("graph", "fit", CLASSES), ("graph", "evaluate", 2.5), ("eager", "fit", -1)],
        *[("eager", "fit", -0.5), ("eager", "train_on_batch", 3e9), ("eager", "evaluate", np.nan)],
        *[("eager", "evaluate", np.uint64(2**63 + 3)), ("eager", "test_on_batch", CLASSES)],
    ],
)
def test_a_number_that_is_no_class_is_one_line(how, call, label, request):
    labels = LABELS.astype(type(label))
    labels[-1] = label
    model = request.getfixturevalue(how)
    before = state_of(model)
    words = r"labels must be whole numbers from 0 to num_classes - 1 = 4\. Received: "
    with pytest.raises(ValueError, match=f"^{words}{label}") as caught:
        CALLS[call](model, IMAGES[-2:], labels[-2:])
    assert len(str(caught.value).splitlines()) == 1
    assert_same_state(model, before)


SOFT = np.full((4, CLASSES), 0.2, "float32")


def spoilt(labels: np.ndarray, value: float, dtype: str) -> np.ndarray:
    labels = labels.astype(dtype)
    labels[-1] = value
    return labels


@pytest.mark.parametrize(
    "labels",
    [
        spoilt(SOFT, np.nan, "float32"),
        spoilt(SOFT, -np.inf, "float32"),
        spoilt(LABELS, 0.5, "float16"),
        spoilt(LABELS, 2**40, "int64"),
    ],
    ids=["NaN", "infinity", "a half", "too large"],
)
def test_a_step_compiled_by_xla_is_not_taken_on_what_are_no_labels(xla, labels):
    xla.failed_step.assign(-1)
    before = state_of(xla)
    with pytest.raises(DivergenceError, match=r"the label of a sample is not finite.* Labels are"):
        xla.train_on_batch(IMAGES, labels)
    assert_same_state(xla, before)


@pytest.mark.parametrize("how", ["eager", "graph"])
def test_pixels_that_are_not_finite_are_not_evaluated(how, request):
    images = IMAGES.astype("float32")
    images[1, 3, 3, 0] = np.nan
    with pytest.raises(ValueError, match=r"^pixels must be finite numbers\. Received: nan$"):
        request.getfixturevalue(how).evaluate(images, LABELS, verbose=0)


@pytest.mark.parametrize(
    ("call", "weights"),
    [
        ("fit", {"sample_weight": np.array([1, np.nan, 1, 1])}),
        ("fit", {"class_weight": {**dict.fromkeys(range(CLASSES), 1.0), int(LABELS[0]): np.nan}}),
        ("train_on_batch", {"sample_weight": np.array([1, 1, -np.inf, 1])}),
    ],
)
def test_weights_that_are_not_finite_are_told_as_such(call, weights):
    model = independent(run_eagerly=True)
    before = state_of(model)
    words = "step 0: the weight of a sample is not finite; .*sample_weight and class_weight are"
    with pytest.raises(DivergenceError, match=words):
        getattr(model, call)(IMAGES, LABELS, **weights)
    assert_same_state(model, before)


@pytest.mark.parametrize("call", ["evaluate", "test_on_batch"])
def test_labels_and_weights_that_are_not_finite_are_not_evaluated(call, eager):
    with pytest.raises(ValueError, match=r"^labels must be finite numbers\. Received: nan$"):
        CALLS[call](eager, IMAGES, spoilt(SOFT, np.nan, "float32"))
    with pytest.raises(ValueError, match=r"^sample weights must be finite"):
        CALLS[call](eager, IMAGES, LABELS, np.array([1, np.nan, 1, 1]))


# Pixels of 0 to 1


def warned(model: OnlineDistiller, images: np.ndarray, call: str = "train_on_batch") -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        CALLS[call](model, images, LABELS)
    return [str(one.message) for one in caught if "255" in str(one.message)]


@pytest.mark.parametrize("call", ["fit", "train_on_batch", "evaluate", "predict"])
def test_pixels_of_0_to_1_are_warned_of_once(call):
    model = independent(run_eagerly=True)
    (line,) = warned(model, IMAGES / 255, call)
    assert "expect pixels of 0 to 255: multiply the images by 255" in line
    assert warned(model, IMAGES / 127.5 - 1, call) == []


@pytest.mark.parametrize(
    "images",
    [
        np.zeros_like(IMAGES),
        np.minimum(IMAGES, 1).astype(np.uint8),
        np.minimum(IMAGES, 2) / 1.5,
        np.concatenate([IMAGES[:2], IMAGES[2:] / 255]),
    ],
    ids=["black", "dark uint8", "dark, resized", "some bright"],
)
def test_dark_pictures_raise_no_alarm(images):
    assert warned(independent(run_eagerly=True), images) == []


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (lambda: small_network(), 1),
        (lambda: build_network("resnet8", (8, 8, 3), CLASSES), 1),
        (lambda: build_network("resnet8", (8, 8, 3), CLASSES, mean=0.47, deviation=0.25), 0),
        (square_root_network, 0),
    ],
)
def test_a_network_shows_by_its_layers_what_pixels_it_expects(network, expected):
    model = compiled(OnlineDistiller([network()], method="independent"))
    assert len(warned(model, IMAGES / 255)) == expected
