"""What methods add to the peers: what it learns, remembers, and refuses.

That each part computes its formula is tested with its method, in test_methods.
"""

import json
import pathlib
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from tiny_peers import CLASSES, tiny_peer

from tf_cutnmix import Method, OnlineDistiller
from tf_cutnmix.errors import InputError
from tf_cutnmix.methods import METHODS, parts_of
from tf_cutnmix.parts import (
    Forward,
    FrozenTeacher,
    Fusion,
    Gate,
    HeldOutWeights,
    LastBatch,
)
from tf_cutnmix.sharing import share_stages

BATCH = 4
EXPORT = pathlib.Path(__file__).parents[1] / "savedmodels" / "digits_resnet8" / "1"
seeds = st.integers(0, 2**32 - 1)


def images_of(count: int = BATCH, seed: int = 0, size: int = 8) -> np.ndarray:
    shape = (count, size, size, 3)
    return np.random.default_rng(seed).integers(0, 256, shape).astype("uint8")


def labels_of(count: int = BATCH, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.dirichlet(np.ones(CLASSES), count).astype("float32")


def logits_of(peers: int, count: int = BATCH, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return list(generator.normal(0, 1, (peers, count, CLASSES)).astype("float32"))


def forward_of(views: list, outputs: list | None = None) -> Forward:
    return Forward(
        tf.constant(0), tf.constant(labels_of()), [tf.constant(v) for v in views], outputs or []
    )


@pytest.fixture(scope="module")
def pair() -> list[keras.Model]:
    return [tiny_peer(), tiny_peer()]


# Weights learnt on held-out images.


def predictions(seed: int, peers: int, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Of peers that err each in their own way, `[n, N, K]`, and the labels."""
    generator = np.random.default_rng(seed)
    labels = np.eye(CLASSES)[generator.integers(0, CLASSES, 50)]
    scores = generator.normal(0, 2, (peers, *labels.shape)) * noise + 2 * labels
    exponents = np.exp(scores)
    return (exponents / exponents.sum(axis=-1, keepdims=True)).astype("float32"), labels


def learnt(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    part = HeldOutWeights([tiny_peer()] * len(probabilities))
    part.learn(probabilities, labels)
    return part.weight.numpy()


def test_held_out_weights_are_equal_before_they_learn(pair: list[keras.Model]) -> None:
    part = HeldOutWeights(pair)
    np.testing.assert_array_equal(part(forward_of([])), [0.5, 0.5])
    assert part.trainable_variables == []


@pytest.mark.parametrize("count", [2, 3, 4])
def test_held_out_weights_are_the_closed_form_and_scipys_optimum(count: int) -> None:
    probabilities, labels = predictions(0, count)
    errors = np.float64(probabilities) - labels
    covariance = np.einsum("ink,jnk->ij", errors, errors) / len(labels)
    inverse = np.linalg.inv(covariance) @ np.ones(count)
    expected = inverse / inverse.sum()
    assert expected.min() > 0
    found = learnt(probabilities, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    best = minimize(
        lambda w: np.sum(np.tensordot(w, errors, axes=1) ** 2),
        np.full(count, 1 / count),
        method="SLSQP",
        bounds=[(0, 1)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        tol=1e-12,
    )
    np.testing.assert_allclose(found, best.x, atol=2e-3)


@given(seeds, st.integers(2, 4))
def test_held_out_weights_are_a_distribution(seed: int, count: int) -> None:
    probabilities, labels = predictions(seed, count)
    # One much worse peer, like the first one but for more noise, wants a negative weight.
    probabilities[1] = np.clip(1.5 * probabilities[0] - 0.5 * labels, 0, 1)
    found = learnt(probabilities, labels)
    np.testing.assert_allclose(found.sum(), 1.0, rtol=1e-5)
    assert np.all(found >= 0)


@pytest.mark.parametrize("distance", [0.0, 1e-9, 1e-7])
def test_held_out_weights_of_like_peers_do_not_blow_up(distance: float) -> None:
    probabilities, labels = predictions(0, 1)
    generator = np.random.default_rng(1)
    alike = [probabilities[0] + distance * generator.normal(size=labels.shape) for _ in range(3)]
    np.testing.assert_allclose(learnt(np.stack(alike), labels), np.full(3, 1 / 3), atol=0.05)


def test_held_out_weights_of_peers_without_error_are_equal() -> None:
    _, labels = predictions(0, 1)
    found = learnt(np.stack([labels] * 4), labels)
    np.testing.assert_allclose(found, np.full(4, 0.25), rtol=1e-6)


def test_held_out_weights_are_learnt_after_each_epoch() -> None:
    peers = [tiny_peer(), tiny_peer()]
    model = OnlineDistiller(peers, None, "kdcl_general")
    model.compile(keras.optimizers.SGD(0.01))
    images, labels = images_of(8), labels_of(8).argmax(axis=-1)
    model.fit(images, labels, batch_size=4, verbose=0, validation_data=(images, labels))
    (part,) = model.parts
    each = model.predict_each(tf.constant(images))
    expected = learnt(np.stack([each["peer1"], each["peer2"]]), np.eye(CLASSES)[labels])
    np.testing.assert_allclose(part.weight, expected, rtol=1e-3)
    assert not np.allclose(part.weight, 0.5)


# The batch before this one.


def test_at_the_first_step_the_batch_itself_takes_the_place_of_the_last(pair: list) -> None:
    part = LastBatch(pair, BATCH)
    images, labels = images_of(), labels_of()
    found = part.recall(tf.constant(images), tf.constant(labels), tf.constant(0))
    np.testing.assert_array_equal(found[0], images)
    np.testing.assert_array_equal(found[1], labels)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "bfloat16"])
def test_the_last_batch_is_recalled_in_the_dtype_of_the_images(pair: list, dtype: str) -> None:
    part = LastBatch(pair, BATCH)
    last = tf.cast(images_of(seed=1), dtype)
    part.remember(last, tf.constant(labels_of(seed=1)), logits_of(2))
    now = tf.cast(images_of(seed=2), dtype)
    images, labels = part.recall(now, tf.constant(labels_of(seed=2)), tf.constant(1))
    assert images.dtype == dtype
    np.testing.assert_array_equal(images, last)
    np.testing.assert_array_equal(labels, labels_of(seed=1))


def test_what_the_peers_said_of_the_newest_batch_is_remembered(pair: list) -> None:
    part = LastBatch(pair, BATCH)
    logits = logits_of(2, 2 * BATCH)
    part.remember(tf.constant(images_of()), tf.constant(labels_of()), logits)
    np.testing.assert_array_equal(part(forward_of([])), [z[BATCH:] for z in logits])
    assert part.trainable_variables == []


def test_a_batch_of_another_size_is_refused(pair: list) -> None:
    part = LastBatch(pair, BATCH)
    with pytest.raises(ValueError, match="batches of 4 images and cannot take one of 3"):
        part.recall(tf.constant(images_of(3)), tf.constant(labels_of(3)), tf.constant(1))


def test_a_step_of_dlb_trains_on_this_batch_and_the_last_one() -> None:
    model = OnlineDistiller([tiny_peer()], None, Method("dlb", batch_size=BATCH))
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    first, second = (images_of(seed=seed).astype("float32") for seed in (1, 2))
    labels = labels_of(2 * BATCH).argmax(axis=-1)
    seen = []
    network = model.run_peers.networks[0]
    model.run_peers.networks[0] = lambda view, training: (
        seen.append(view.numpy()) or network(view, training=training)
    )
    model.fit(np.concatenate([first, second]), labels, batch_size=BATCH, shuffle=False, verbose=0)
    np.testing.assert_array_equal(seen[0], np.concatenate([first, first]))
    np.testing.assert_array_equal(seen[1], np.concatenate([first, second]))


# The frozen teacher.


@pytest.fixture(scope="module")
def frozen() -> FrozenTeacher:
    return FrozenTeacher(str(EXPORT), [tiny_peer()])


def answer(images: np.ndarray) -> np.ndarray:
    export = tf.saved_model.load(str(EXPORT))
    return export.signatures["serving_default"](tf.constant(images))["logits"].numpy()


def test_the_frozen_teacher_says_of_each_view_what_its_export_says(
    frozen: FrozenTeacher,
) -> None:
    views = [images_of(seed=1), images_of(seed=2)]
    halfway = [view.astype("float32") + 0.25 for view in views]
    call = tf.function(lambda f: frozen(f))
    for given_views in (views, halfway):
        found = call(forward_of(given_views))
        for logits, view in zip(found, views, strict=True):
            np.testing.assert_allclose(logits, answer(view), rtol=1e-4, atol=1e-5)


def test_the_frozen_teacher_resizes_views_of_another_size() -> None:
    part = FrozenTeacher(str(EXPORT), [keras.Model(*_bigger())])
    view = images_of(size=12)
    np.testing.assert_allclose(part(forward_of([view]))[0], answer(view), rtol=1e-4, atol=1e-5)


def _bigger() -> tuple:
    images = keras.Input((12, 12, 3))
    features = keras.layers.GlobalAveragePooling2D()(images)
    return images, {"features": features, "logits": keras.layers.Dense(CLASSES)(features)}


def test_pixels_that_augmentation_pushed_out_of_range_do_not_wrap_around(
    frozen: FrozenTeacher,
) -> None:
    view = 3.0 * images_of().astype("float32") - 200
    expected = answer(np.clip(np.round(view), 0, 255).astype("uint8"))
    np.testing.assert_allclose(frozen(forward_of([view]))[0], expected, rtol=1e-4, atol=1e-5)


def test_xla_cannot_compile_the_frozen_teacher_and_keras_is_told(frozen: FrozenTeacher) -> None:
    assert not frozen.supports_jit
    with pytest.raises(tf.errors.InvalidArgumentError, match="unsupported operations"):
        tf.function(lambda f: frozen(f), jit_compile=True)(forward_of([images_of()]))


def test_nothing_in_the_frozen_teacher_is_trained(frozen: FrozenTeacher) -> None:
    assert frozen.variables == []
    view = tf.constant(images_of(), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(view)
        total = tf.reduce_sum(frozen(forward_of([])._replace(views=[view]))[0])
    assert tape.gradient(total, view) is None


def test_a_teacher_of_other_classes_is_refused() -> None:
    images = keras.Input((8, 8, 3))
    features = keras.layers.GlobalAveragePooling2D()(images)
    peer = keras.Model(images, {"features": features, "logits": keras.layers.Dense(7)(features)})
    with pytest.raises(InputError, match="tells 10 classes apart and the data have 7"):
        FrozenTeacher(str(EXPORT), [peer])


def test_a_teacher_may_be_named_by_its_run(tmp_path: pathlib.Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"exports": {"teacher": str(EXPORT)}}))
    part = FrozenTeacher(str(tmp_path), [tiny_peer()])
    view = images_of()
    np.testing.assert_allclose(part(forward_of([view]))[0], answer(view), rtol=1e-4, atol=1e-5)


def test_a_teacher_that_is_not_there_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match=r"--teacher=.*nowhere: there is no such folder"):
        FrozenTeacher(str(tmp_path / "nowhere"), [tiny_peer()])


def test_a_folder_without_an_export_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match=r"holds no saved_model\.pb"):
        FrozenTeacher(str(tmp_path), [tiny_peer()])


def test_a_folder_of_versions_is_refused_with_their_names(tmp_path: pathlib.Path) -> None:
    for version in ("1", "2"):
        shutil.copytree(EXPORT, tmp_path / version)
    with pytest.raises(InputError, match="name a version in it: 1, 2"):
        FrozenTeacher(str(tmp_path), [tiny_peer()])


def test_a_run_that_exported_no_teacher_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"exports": {}}))
    with pytest.raises(InputError, match="that run exported no teacher"):
        FrozenTeacher(str(tmp_path), [tiny_peer()])


# Gates and fusions.


def shared_pair(size: int = 6) -> list[keras.Model]:
    return share_stages([tiny_peer(size), tiny_peer(size)], "stage1")


def outputs_of(peers: list[keras.Model], views: list) -> list[dict]:
    return [peer(view, training=False) for peer, view in zip(peers, views, strict=True)]


def test_the_gate_of_own_views_sees_the_mean_of_the_shared_maps() -> None:
    peers = shared_pair()
    part = Gate(peers)
    views = [tf.constant(images_of(seed=seed), tf.float32) for seed in (1, 2)]
    outputs = outputs_of(peers, views)
    mean = (outputs[0]["stage1"] + outputs[1]["stage1"]) / 2
    same = [{**output, "stage1": mean} for output in outputs]
    found, expected = part(forward_of(views, outputs)), part(forward_of(views, same))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    own = part(forward_of(views, [{**o, "stage1": outputs[0]["stage1"]} for o in outputs]))
    assert not np.allclose(found, own, atol=1e-4)


def test_the_gate_weighs_the_peers_of_each_sample_by_a_distribution() -> None:
    peers = shared_pair()
    views = [tf.constant(images_of(), tf.float32)] * 2
    outputs = outputs_of(peers, views)
    alike = [{**output, "logits": outputs[0]["logits"]} for output in outputs]
    found = Gate(peers)(forward_of(views, alike))
    np.testing.assert_allclose(found, outputs[0]["logits"], rtol=1e-5, atol=1e-6)


def test_the_fusion_takes_the_last_map_of_each_peer_whatever_its_name() -> None:
    images = keras.Input((8, 8, 3))
    ends = {"stage1": keras.layers.Conv2D(5, 3, strides=4, padding="same")(images)}
    ends["features"] = keras.layers.GlobalAveragePooling2D()(ends["stage1"])
    ends["logits"] = keras.layers.Dense(CLASSES)(ends["features"])
    peers = [tiny_peer(5), keras.Model(images, ends)]
    views = [tf.constant(images_of(), tf.float32)] * 2
    found = Fusion(peers)(forward_of(views, outputs_of(peers, views)))
    assert found.shape == (BATCH, CLASSES)


@pytest.mark.parametrize("name", METHODS)
def test_parts_hold_no_variable_of_a_peer(name: str) -> None:
    peers = share_stages([tiny_peer() for _ in range(3)], "stage1")
    terms = Method(name, batch_size=BATCH, teacher=str(EXPORT)).terms(peers)
    own = {id(variable) for peer in peers for variable in peer.variables}
    for part in parts_of(terms):
        assert own.isdisjoint(id(variable) for variable in part.variables)
