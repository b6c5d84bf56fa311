"""Cut^nMix's framework: the distance of features, and who teaches, against NumPy."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, softmax

from tests.distillation.arrays import (
    FEATURES,
    SAMPLES,
    gradient,
    random_features,
    random_peers,
    unit,
)
from tests.distillation.small_models import (
    CLASSES,
    batch_of,
    compiled,
    small_distiller,
    small_network,
)
from tf_cutnmix import CropAndFlip, CutMix, CutNMix, FMix, Method, MixUp
from tf_cutnmix.distillation.method import Forward, Term
from tf_cutnmix.distillation.methods.cutnmix import OPTIONS, feature_distance
from tf_cutnmix.errors import InputError


def test_feature_distance_is_two_minus_twice_the_cosine_with_a_gradient_for_one_side():
    features, target = random_features(0), random_features(1)
    own, other = unit(features), unit(target)
    cosine = np.sum(own * other, axis=-1, keepdims=True)
    found = feature_distance(features, target)
    np.testing.assert_allclose(found, np.mean(2 - 2 * cosine), rtol=1e-4, atol=1e-5)
    slope, of_target = gradient(feature_distance, features, target)
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    np.testing.assert_allclose(slope, -2 * (other - cosine * own) / length / SAMPLES, atol=1e-6)
    assert of_target is None


def test_features_of_length_zero_have_a_finite_gradient():
    zeros = np.zeros((SAMPLES, FEATURES), np.float32)
    np.testing.assert_allclose(feature_distance(zeros, random_features(0)), 1.0, rtol=1e-6)
    found, _ = gradient(feature_distance, zeros, random_features(0))
    assert np.all(np.isfinite(found))


T = 2.0
OWN = np.float32([0.9, 0.2, 1.0, 0.0, 0.5])
PARTNER = np.array([2, 0, 4, 1, 3])
# The answers of live peers are on mixed views.
POSSIBLE = [c for c in itertools.product(*OPTIONS.values()) if c[1:] != ("peers", "clean")]


def mixed(answers):
    """What `Forward.mix` is: by the share that stays of each of five samples."""
    return OWN[:, None] * answers + (1 - OWN[:, None]) * tf.gather(answers, PARTNER)


def teacher_term(peers: int, *choices: str) -> Term:
    method = Method("cutnmix", temperature=T, options=dict(zip(OPTIONS, choices, strict=True)))
    return {term.name: term for term in method.terms([small_network()] * peers)}["teacher"]


@pytest.mark.parametrize("choices", POSSIBLE, ids="-".join)
def test_the_ensemble_teaches_as_numpy_says_and_gets_no_gradient(choices):
    members, of, view = choices
    logits, averages = random_peers(1), random_peers(2)
    teachers = [softmax(np.float64(z) / T, -1) for z in (averages if of == "averages" else logits)]
    if view == "clean":
        teachers = [OWN[:, None] * t + (1 - OWN[:, None]) * t[PARTNER] for t in teachers]
    expected, slopes = 0.0, []
    for i, z in enumerate(np.float64(logits)):
        target = np.mean([t for j, t in enumerate(teachers) if j != i or members == "all"], 0)
        log_ratio = np.log(target) - log_softmax(z / T, -1)
        expected += T**2 * np.mean(np.sum(target * log_ratio, -1))
        slopes.append(T * (softmax(z / T, -1) - target) / SAMPLES)

    term = teacher_term(len(logits), *choices)
    assert (term.uses_averages, term.unmixed) == (of == "averages", view == "clean")

    def loss(*arrays):
        outputs = [{"logits": z} for z in arrays]
        half = len(outputs) // 2
        step = Forward(tf.constant(0), tf.constant(0.0), [], outputs[:half], outputs[half:])
        return term.loss(step._replace(mix=mixed))

    arrays = [*logits, *averages]
    np.testing.assert_allclose(loss(*map(tf.constant, arrays)), expected, rtol=2e-5)
    found = gradient(loss, *arrays)
    np.testing.assert_allclose(np.stack(found[: len(logits)]), slopes, atol=1e-6)
    assert found[len(logits) :] == [None] * len(averages)


def test_a_single_peer_keeps_its_own_average_as_teacher():
    outputs, averages = ([{"logits": z}] for z in (random_peers(1)[0], random_peers(2)[0]))
    forward = Forward(tf.constant(0), tf.constant(0.0), [], outputs, averages)
    own = teacher_term(1, "others", "averages", "mixed").loss(forward)
    assert own == teacher_term(1, "all", "averages", "mixed").loss(forward) > 0.1


def test_clean_views_are_of_averaged_networks_and_of_a_mixing_of_ours():
    with pytest.raises(InputError, match="only averaged networks see unmixed"):
        teacher_term(2, "all", "peers", "clean")

    class Foreign(keras.layers.Layer):
        pass

    method = Method("cutnmix", options={"ensemble_view": "clean"})
    with pytest.raises(ValueError, match="Foreign cannot mix answers"):
        small_distiller(mixing=Foreign(), method=method)


@pytest.mark.parametrize(
    ("mixing", "own_views"),
    [(CutNMix, False), (CutMix, True), (MixUp, False), (FMix, True), (None, False), (None, True)],
)
def test_answers_for_unmixed_images_are_mixed_as_the_labels_are(mixing, own_views):
    layer = mixing and mixing(alpha=1.0, num_classes=CLASSES, seed=4)
    augment = CropAndFlip(seed=5)
    method = Method("cutnmix", temperature=T, options={"ensemble_view": "clean"})
    settings = {"mixing": layer, "augment": augment, "method": method, "own_views": own_views}
    model = compiled(small_distiller(**settings))
    images, labels = map(tf.constant, batch_of(0))
    step = tf.constant(0, tf.int64)
    views, mixed_labels, *_ = model.make_views(images, labels, step)
    unmixed = [augment(images, step=0)] * 2
    if own_views:
        copies = augment(tf.repeat(images, 2, axis=0), step=0)
        unmixed = [copies[k::2] for k in range(2)]
    answers = [
        softmax(network(view, training=True)["logits"].numpy().astype("f8") / T, -1)
        for network, view in zip(model.averages, unmixed, strict=True)
    ]
    # One-hot labels say what part of whose answer is in each sample.
    whose = np.eye(len(images), dtype="float32")
    share = whose if layer is None else layer.mix_labels(whose, layer.draw(0, (4, 8, 8)), 8, 8)
    np.testing.assert_allclose(np.float64(share) @ np.eye(CLASSES)[labels], mixed_labels, atol=1e-6)
    target = np.float64(share) @ np.mean(answers, 0)
    total = 0.0
    for peer, view in zip(model.peers, views, strict=True):
        predicted = log_softmax(peer(view, training=True)["logits"].numpy().astype("f8") / T, -1)
        total += T**2 * np.mean(np.sum(target * (np.log(target) - predicted), -1))
    logs = model.train_on_batch(images, labels, return_dict=True)
    assert logs["teacher"] == pytest.approx(total, rel=1e-4)
    assert total > 0.001


@pytest.mark.long
def test_all_options_train_alike_eagerly_and_under_xla():
    logs = []
    for how in ({"run_eagerly": True}, {"jit_compile": True}):
        mixing = CutNMix(2, num_classes=CLASSES, seed=0, probability=0.5, until_step=2)
        options = {"ensemble_members": "others", "ensemble_view": "clean"}
        method = Method("cutnmix", options=options)
        settings = {"mixing": mixing, "method": method, "augment": CropAndFlip(seed=0)}
        model = compiled(small_distiller(**settings), 0.01, **how)
        logs.append([model.train_on_batch(*batch_of(i), return_dict=True) for i in range(3)][-1])
    assert logs[1] == pytest.approx(logs[0], rel=1e-3, abs=1e-4)
    assert logs[0]["teacher"] > 0
