"""What every method must withstand in training: compilers, precisions, saving, breaks, NaN."""

import functools
import pathlib
import random
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_networks

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


def distiller(name: str, mixing: keras.layers.Layer | None = None, **how) -> OnlineDistiller:
    """As few peers as can learn from each other, with the same weights every time."""
    random.seed(0)
    recipe = METHODS[name]
    peers = [tiny_networks.smooth() for _ in range(max(2, recipe.min_peers))]
    if recipe.shares:
        peers = share_stages(peers, "stage1", mean_gradient=recipe.mean_gradient)
    model = OnlineDistiller(
        peers,
        mixing or CutNMix(len(peers), seed=0),
        Method(name, ramp_steps=1, batch_size=BATCH, teacher=TEACHER),
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


def fit(model: OnlineDistiller, epochs: tuple[int, ...] = (0, 1)) -> dict:
    """The history of some epochs, of one step on a batch of their own each."""
    history: dict[str, list] = {}
    held_out = batches(2, seed=9) if model.method.recipe.held_out else None
    for epoch in epochs:
        data = batches(1, seed=epoch)
        logs = model.fit(data, validation_data=held_out, verbose=0).history
        history = {key: [*history.get(key, []), *values] for key, values in logs.items()}
    return history


def values_of(model: OnlineDistiller) -> list[np.ndarray]:
    metrics = {id(v) for metric in model.metrics for v in metric.variables}
    variables = [*model.variables, *model.optimizer.variables]
    return [v.numpy() for v in variables if id(v) not in metrics]


def assert_close(model: OnlineDistiller, other: OnlineDistiller, tolerance: float) -> None:
    for found, expected in zip(values_of(model), values_of(other), strict=True):
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def eager() -> Callable[[str], tuple[OnlineDistiller, list, dict]]:
    """A method after two epochs, its weights before, its history; made once."""

    @functools.cache
    def trained(name: str) -> tuple[OnlineDistiller, list, dict]:
        model = distiller(name, run_eagerly=True)
        before = [v.numpy().copy() for v in model.trainable_variables]
        return model, before, fit(model)

    return trained


@pytest.mark.parametrize("name", METHODS)
def test_every_weight_is_trained_and_the_loss_is_the_sum_of_finite_terms(name, eager):
    model, before, history = eager(name)
    terms = [history[term] for term in model.term_names]
    assert np.all(np.isfinite(terms))
    assert np.all(np.array(terms) > -1e-5)
    np.testing.assert_allclose(history["loss"], np.sum(terms, axis=0), rtol=1e-5)
    assert int(model.step.value) == 2
    for value, variable in zip(before, model.trainable_variables, strict=True):
        assert not np.array_equal(value, variable), variable.path


@pytest.mark.long
@pytest.mark.parametrize("name", SOME_FAST)
def test_a_saved_model_goes_on_in_a_graph_as_if_there_had_been_no_break(name, eager, tmp_path):
    whole = distiller(name, jit_compile=False)
    fit(whole, (0,))
    whole.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for model in (whole, loaded):
        fit(model, (1,))
    assert_close(whole, eager(name)[0], tolerance=2e-3)
    assert_close(loaded, whole, tolerance=0)


@pytest.mark.long
@pytest.mark.parametrize("name", COMPILED)
def test_steps_under_xla_are_those_of_eager_execution(name, eager):
    compiled = distiller(name, jit_compile=True)
    fit(compiled)
    assert_close(compiled, eager(name)[0], tolerance=2e-3)


def test_averages_share_what_their_peers_share_and_average_it_once():
    model = distiller("one", run_eagerly=True)
    for average, peer in zip(model.averages, model.peers, strict=True):
        assert len(average.variables) == len(peer.variables)
    of_peers, of_averages = (
        set.intersection(*({id(v) for v in network.variables} for network in networks))
        for networks in (model.peers, model.averages)
    )
    assert len(of_peers) == len(of_averages)
    images, labels = next(iter(batches(1)))
    for _ in range(2):
        model.train_on_batch(images, labels)
    average, value = model.averages[0].variables[0], model.peers[0].variables[0]
    before = average.numpy()
    model.train_on_batch(images, labels)
    np.testing.assert_allclose(average, 0.6 * before + 0.4 * value.numpy(), rtol=1e-5, atol=1e-7)


def test_own_views_are_other_crops_of_one_pair_with_one_label():
    peers = [tiny_networks.tiny() for _ in range(3)]
    images, labels = next(iter(batches(1)))

    def views(**settings):
        model = OnlineDistiller(peers, CutMix(seed=1), "independent", **settings)
        return model.make_views(images, labels, tf.constant(3, tf.int64))

    shared, shared_labels, *_ = views(augment=CropAndFlip(0.3, seed=0))
    own, own_labels, *_ = views(augment=CropAndFlip(0.3, seed=0), own_views=True)
    plain, plain_labels, *_ = views(own_views=True)
    assert all(view is shared[0] for view in shared)
    assert not np.array_equal(own[0], own[1])
    assert not np.array_equal(own[1], own[2])
    np.testing.assert_array_equal(own_labels, shared_labels)
    np.testing.assert_array_equal(own_labels, plain_labels)
    np.testing.assert_array_equal(plain[0], plain[2])


def test_own_views_and_the_leader_are_those_of_the_papers(eager):
    models = {name: eager(name)[0] for name in METHODS}
    own = {name for name, model in models.items() if model.own_views}
    assert own == {"kdcl", "kdcl_naive", "kdcl_linear", "kdcl_general", "pcl"}
    leaders = {name: model.leader for name, model in models.items() if model.leader}
    assert leaders == {"one": "peer1", "okddip": "peer3"}


def test_the_last_batch_is_seen_again_in_other_crops_with_the_label_it_had():
    model = distiller("dlb", run_eagerly=True)
    (first, first_labels), (second, second_labels) = list(batches(2))
    _, labels, *_ = model.make_views(first, first_labels, tf.constant(0, tf.int64))
    once = labels[BATCH:]
    model.train_on_batch(first, first_labels)
    views, labels, *_ = model.make_views(second, second_labels, tf.constant(1, tf.int64))
    assert [tuple(view.shape) for view in views] == [(2 * BATCH, 8, 8, 3)] * 2
    np.testing.assert_array_equal(labels[:BATCH], once)
    plain = distiller("independent", run_eagerly=True)
    _, alone, *_ = plain.make_views(second, second_labels, tf.constant(1, tf.int64))
    np.testing.assert_array_equal(labels[BATCH:], alone)
    memory = model.parts[0]
    np.testing.assert_array_equal(memory.images, first)
    np.testing.assert_array_equal(memory.labels, np.eye(CLASSES)[first_labels])
    with pytest.raises(ValueError, match=f"batches of {BATCH} images and cannot take one of 4"):
        model.train_on_batch(first[:4], first_labels[:4])


def test_held_out_weights_are_those_of_the_peers_after_the_epoch(eager):
    model, *_ = eager("kdcl_general")
    held_out = list(batches(2, seed=9))
    predictions = [model.predict_each(images) for images, _ in held_out]
    peers = [np.concatenate([p[f"peer{k}"] for p in predictions]) for k in (1, 2)]
    truth = np.eye(CLASSES)[np.concatenate([labels for _, labels in held_out])]
    errors = np.stack(peers).astype(float) - truth
    covariance = np.einsum("inc,jnc->ij", errors, errors)
    weights = np.maximum(np.linalg.solve(covariance, np.ones(2)), 0)
    np.testing.assert_allclose(model.parts[0].weight, weights / weights.sum(), atol=0.02)
    with pytest.raises(ValueError, match="pass validation_data"):
        model.fit(batches(1), verbose=0)


def test_a_layer_that_cannot_mix_own_views_alike_is_refused():
    with pytest.raises(ValueError, match=r"CutMix cannot mix views .* own_views=False"):
        distiller("kdcl", mixing=keras.layers.CutMix())


def test_the_overlap_of_boxes_is_logged_where_peers_have_boxes_of_their_own(eager):
    assert "region_overlap" in eager("independent")[2]
    model = distiller("independent", mixing=CutMix(seed=0))
    assert "region_overlap" not in [metric.name for metric in model.metrics]
