"""What every method must withstand in training: compilers, precisions, saving, breaks, NaN."""

import functools
import pathlib
import random
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_cutnmix import CropAndFlip, CutMix, CutNMix, Method, OnlineDistiller, share_stages
from tf_cutnmix.distillation.method import METHODS

CLASSES = 10
BATCH = 6
# Between them they have all kinds of parts: a classifier, averages, own views, a memory.
SOME = ("pcl", "dlb")
SOME_FAST = [n if n in SOME else pytest.param(n, marks=pytest.mark.slow) for n in METHODS]
# An export resizes its images, which XLA cannot compile.
COMPILED = [p for n, p in zip(METHODS, SOME_FAST, strict=True) if n != "kd"]
TEACHER = str(pathlib.Path(__file__).parents[2] / "savedmodels" / "digits_resnet8" / "1")


def small_network() -> keras.Model:
    images = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 64, offset=-2)(images)
    stem = keras.layers.Conv2D(6, 3, padding="same", use_bias=False)(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(stem))
    first = keras.layers.Conv2D(8, 3, strides=2, padding="same")(x)
    last = keras.layers.Conv2D(8, 3, padding="same")(keras.layers.ReLU()(first))
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(last))
    logits = keras.layers.Dense(CLASSES)(features)
    maps = {"stem": stem, "stage1": first, "stage2": last}
    return keras.Model(images, {**maps, "features": features, "logits": logits})


def distiller(name: str, mixing: keras.layers.Layer | None = None, **how) -> OnlineDistiller:
    """Three peers, with the same weights every time."""
    random.seed(0)
    peers = [small_network() for _ in range(3)]
    recipe = METHODS[name]
    if recipe.shares:
        peers = share_stages(peers, "stage1", mean_gradient=recipe.mean_gradient)
    model = OnlineDistiller(
        peers,
        mixing or CutNMix(3, seed=0),
        Method(name, ramp_steps=2, batch_size=BATCH, teacher=TEACHER),
        augment=CropAndFlip(seed=0),
        momentum=0.6,
        weight_decay=1e-3,
    )
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True), **how)
    return model


def batches(count: int, seed: int = 0) -> tf.data.Dataset:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count * BATCH, 8, 8, 3)).astype("uint8")
    labels = generator.integers(0, CLASSES, count * BATCH).astype("int32")
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(BATCH, drop_remainder=True)


def fit(model: OnlineDistiller, data: tf.data.Dataset, epochs: int = 1, start: int = 0) -> dict:
    history = model.fit(
        data,
        initial_epoch=start,
        epochs=start + epochs,
        validation_data=batches(2, seed=9),
        verbose=0,
    )
    return history.history


def values_of(model: OnlineDistiller) -> list[np.ndarray]:
    metrics = {id(v) for metric in model.metrics for v in metric.variables}
    variables = [*model.variables, *model.optimizer.variables]
    return [v.numpy() for v in variables if id(v) not in metrics]


def assert_close(model: OnlineDistiller, other: OnlineDistiller, tolerance: float) -> None:
    for found, expected in zip(values_of(model), values_of(other), strict=True):
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def fresh() -> Callable[[str], OnlineDistiller]:
    """A method as it begins, made when it is first asked for. Only look at it."""
    return functools.cache(lambda name: distiller(name, jit_compile=False))


@pytest.fixture(scope="module")
def eager() -> Callable[[str], tuple[OnlineDistiller, dict]]:
    """A method after two epochs of two steps, and its history, when it is first asked for."""

    @functools.cache
    def trained(name: str) -> tuple[OnlineDistiller, dict]:
        model = distiller(name, run_eagerly=True)
        return model, fit(model, batches(2), epochs=2)

    return trained


@pytest.mark.parametrize("name", METHODS)
def test_all_terms_are_finite_and_their_sum_is_the_loss(name, eager):
    model, history = eager(name)
    terms = [history[term] for term in model.term_names]
    assert np.all(np.isfinite(terms))
    assert np.all(np.array(terms) > -1e-5)
    np.testing.assert_allclose(history["loss"], np.sum(terms, axis=0), rtol=1e-5)
    assert int(model.step.value) == 4


@pytest.mark.parametrize("name", METHODS)
def test_every_weight_is_trained(name, eager, fresh):
    for before, after in zip(
        fresh(name).trainable_variables, eager(name)[0].trainable_variables, strict=True
    ):
        assert not np.array_equal(before, after), before.path


@pytest.mark.long
@pytest.mark.parametrize("name", SOME_FAST)
def test_a_saved_model_goes_on_in_a_graph_as_if_there_had_been_no_break(name, eager, tmp_path):
    whole = distiller(name, jit_compile=False)
    fit(whole, batches(2))
    whole.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for model in (whole, loaded):
        fit(model, batches(2), start=1)
    assert_close(whole, eager(name)[0], tolerance=2e-3)
    assert_close(loaded, whole, tolerance=0)


@pytest.mark.long
@pytest.mark.parametrize("name", COMPILED)
def test_steps_under_xla_are_those_of_eager_execution(name, eager):
    compiled = distiller(name, jit_compile=True)
    fit(compiled, batches(2), epochs=2)
    assert_close(compiled, eager(name)[0], tolerance=2e-3)


@pytest.mark.long
@pytest.mark.parametrize("name", SOME_FAST)
def test_mixed_precision_trains(name):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = distiller(name, mixing=CutMix(seed=0), jit_compile=False)
        history = fit(model, batches(2))
    finally:
        keras.config.set_dtype_policy(policy)
    assert np.isfinite(history["loss"][0])
    kept = [*model.variables, *model.optimizer.variables]
    floats = {v.dtype for v in kept if keras.backend.is_float_dtype(v.dtype)}
    assert floats == {"float32"}


def test_averages_share_what_their_peers_share_and_average_it_once():
    model = distiller("one", run_eagerly=True)
    for average, peer in zip(model.averages, model.peers, strict=True):
        assert len(average.variables) == len(peer.variables)
    shared = set.intersection(*({id(v) for v in a.variables} for a in model.averages))
    assert len(shared) == len(
        set.intersection(*({id(v) for v in p.variables} for p in model.peers))
    )
    for _ in range(2):
        model.train_on_batch(*next(iter(batches(1))))
    average, value = model.averages[0].variables[0], model.peers[0].variables[0]
    before = average.numpy()
    model.train_on_batch(*next(iter(batches(1))))
    np.testing.assert_allclose(average, 0.6 * before + 0.4 * value.numpy(), rtol=1e-5, atol=1e-7)


def test_own_views_are_other_crops_of_one_pair_with_one_label():
    peers = [small_network() for _ in range(3)]
    images, labels = next(iter(batches(1)))
    step = tf.constant(3, tf.int64)

    def views(**settings):
        model = OnlineDistiller(peers, CutMix(seed=1), "independent", **settings)
        return model.make_views(images, labels, step)

    shared, shared_labels, *_ = views(augment=CropAndFlip(0.3, seed=0))
    own, own_labels, *_ = views(augment=CropAndFlip(0.3, seed=0), own_views=True)
    plain, plain_labels, *_ = views(own_views=True)
    assert all(view is shared[0] for view in shared)
    assert not np.array_equal(own[0], own[1])
    assert not np.array_equal(own[1], own[2])
    np.testing.assert_array_equal(own_labels, shared_labels)
    np.testing.assert_array_equal(own_labels, plain_labels)
    np.testing.assert_array_equal(plain[0], plain[2])


def test_only_the_papers_with_views_of_their_own_have_them_by_default(fresh):
    own = {name for name in METHODS if fresh(name).own_views}
    assert own == {"kdcl", "kdcl_naive", "kdcl_linear", "kdcl_general", "pcl"}


def test_the_leader_is_the_peer_that_the_paper_deploys(fresh):
    leaders = {name: fresh(name).leader for name in METHODS}
    assert {name: leader for name, leader in leaders.items() if leader} == {
        "one": "peer1",
        "okddip": "peer3",
    }


def test_the_last_batch_is_seen_again_in_other_crops_with_the_label_it_had():
    model = distiller("dlb", run_eagerly=True)
    (first, first_labels), (second, second_labels) = list(batches(2))
    _, labels, *_ = model.make_views(first, first_labels, tf.constant(0, tf.int64))
    once = labels[BATCH:]
    model.train_on_batch(first, first_labels)
    views, labels, *_ = model.make_views(second, second_labels, tf.constant(1, tf.int64))
    assert [tuple(view.shape) for view in views] == [(2 * BATCH, 8, 8, 3)] * 3
    np.testing.assert_array_equal(labels[:BATCH], once)
    plain = distiller("independent", run_eagerly=True)
    _, alone, *_ = plain.make_views(second, second_labels, tf.constant(1, tf.int64))
    np.testing.assert_array_equal(labels[BATCH:], alone)
    memory = model.parts[0]
    np.testing.assert_array_equal(memory.images, first)
    np.testing.assert_array_equal(memory.labels, np.eye(CLASSES)[first_labels])


def test_a_batch_of_another_size_than_the_last_is_refused():
    with pytest.raises(ValueError, match=f"batches of {BATCH} images and cannot take one of 4"):
        distiller("dlb", run_eagerly=True).train_on_batch(
            np.zeros((4, 8, 8, 3), "uint8"), np.zeros(4, "int32")
        )


def test_held_out_weights_are_those_of_the_peers_after_the_epoch(eager):
    model, _ = eager("kdcl_general")
    held_out = list(batches(2, seed=9))
    predictions = [model.predict_each(images) for images, _ in held_out]
    peers = [np.concatenate([p[f"peer{k}"] for p in predictions]) for k in (1, 2, 3)]
    truth = np.eye(CLASSES)[np.concatenate([labels for _, labels in held_out])]
    errors = np.stack(peers).astype(float) - truth
    covariance = np.einsum("inc,jnc->ij", errors, errors)
    weights = np.maximum(np.linalg.solve(covariance, np.ones(3)), 0)
    np.testing.assert_allclose(model.parts[0].weight, weights / weights.sum(), atol=0.02)


def test_held_out_images_are_needed():
    with pytest.raises(ValueError, match="pass validation_data"):
        distiller("kdcl_general").fit(batches(1), verbose=0)


def test_a_layer_that_cannot_mix_own_views_alike_is_refused():
    with pytest.raises(ValueError, match=r"CutMix cannot mix views .* own_views=False"):
        distiller("kdcl", mixing=keras.layers.CutMix())


def test_the_overlap_of_boxes_is_logged_where_peers_have_boxes_of_their_own():
    names = [m.name for m in distiller("independent").metrics]
    assert "region_overlap" in names
    names = [m.name for m in distiller("independent", mixing=CutMix(seed=0)).metrics]
    assert "region_overlap" not in names
