"""Who teaches in Cut^nMix's framework: the options of its ensemble, against NumPy."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, softmax

from tests.distillation.arrays import SAMPLES, gradient, random_peers
from tests.distillation.small_models import (
    CLASSES,
    batch_of,
    compiled,
    small_distiller,
    small_network,
)
from tf_cutnmix import CropAndFlip, CutMix, CutNMix, FMix, Method, MixUp
from tf_cutnmix.distillation.method import METHODS, Forward
from tf_cutnmix.distillation.methods.cutnmix import ensemble_distillation
from tf_cutnmix.errors import InputError

T = 2.0
OWN = np.float32([0.9, 0.2, 1.0, 0.0, 0.5])
PARTNER = np.array([2, 0, 4, 1, 3])


def mixed(answers):
    """What `Forward.mix` is: by the share that stays of each of five samples."""
    return OWN[:, None] * answers + (1 - OWN[:, None]) * tf.gather(answers, PARTNER)


def forward_of(logits, averages):
    outputs, taught = ([{"logits": tf.constant(z)} for z in zs] for zs in (logits, averages))
    return Forward(tf.constant(0), tf.constant(0.0), [], outputs, taught, {}, mixed)


def expected(logits, averages, *, others, from_averages, unmixed):
    teachers = [softmax(np.float64(z) / T, -1) for z in (averages if from_averages else logits)]
    if unmixed:
        teachers = [OWN[:, None] * t + (1 - OWN[:, None]) * t[PARTNER] for t in teachers]
    total = 0.0
    for i, z in enumerate(logits):
        target = np.mean([t for j, t in enumerate(teachers) if j != i or not others], 0)
        log_ratio = np.log(target) - log_softmax(np.float64(z) / T, -1)
        total += T**2 * np.mean(np.sum(target * log_ratio, -1))
    return total


@pytest.mark.parametrize(
    ("others", "from_averages", "unmixed"),
    [c for c in itertools.product([False, True], repeat=3) if c[1] or not c[2]],
)
def test_the_ensemble_teaches_as_numpy_says(others, from_averages, unmixed):
    options = {
        "others": others,
        "from_averages": from_averages,
        "unmixed": unmixed,
    }
    logits, averages = random_peers(1), random_peers(2)
    found = ensemble_distillation(forward_of(logits, averages), T, **options)
    np.testing.assert_allclose(found, expected(logits, averages, **options), rtol=2e-5)


def test_a_single_peer_keeps_its_own_average_as_teacher():
    logits, averages = random_peers(1, peers=1), random_peers(2, peers=1)
    found = ensemble_distillation(forward_of(logits, averages), T, others=True)
    assert found == ensemble_distillation(forward_of(logits, averages), T)
    assert found > 0.1


@pytest.mark.parametrize("others", [False, True])
def test_live_teachers_get_no_gradient(others):
    logits = random_peers(1)

    def loss(*peers):
        outputs = [{"logits": z} for z in peers]
        forward = Forward(tf.constant(0), tf.constant(0.0), [], outputs)
        return ensemble_distillation(forward, T, others=others, from_averages=False)

    teachers = [softmax(z.astype("f8") / T, -1) for z in logits]
    for i, found in enumerate(gradient(loss, *logits)):
        target = np.mean([t for j, t in enumerate(teachers) if j != i or not others], 0)
        np.testing.assert_allclose(found, T * (teachers[i] - target) / SAMPLES, atol=1e-6)


# What was chosen reaches the terms


def method_of(**options):
    return Method("cutnmix", temperature=T, options=options)


@pytest.mark.parametrize(
    ("options", "uses_averages", "unmixed"),
    [
        ({}, True, False),
        ({"ensemble_from": "peers"}, False, False),
        ({"ensemble_view": "clean"}, True, True),
    ],
    ids=str,
)
def test_averaged_networks_run_only_where_they_teach(options, uses_averages, unmixed):
    terms = {term.name: term for term in method_of(**options).terms([small_network()] * 2)}
    assert (terms["teacher"].uses_averages, terms["teacher"].unmixed) == (uses_averages, unmixed)


def test_every_choice_changes_the_term():
    forward = forward_of(random_peers(1), random_peers(2))
    options = METHODS["cutnmix"].options
    chosen = [{}, *({name: choices[1]} for name, choices in options.items())]
    values = []
    for choice in chosen:
        teacher = method_of(**choice).terms([small_network(7, 7), small_network(7, 7)])[1]
        values.append(float(teacher.loss(forward)))
    assert len(chosen) == len(set(values)) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "dml", "options": {"ensemble_view": "clean"}}, "no option of --method=dml"),
        ({"options": {"ensemble_view": "blurred"}}, "blurred.*clean, mixed"),
    ],
    ids=str,
)
def test_options_that_a_method_has_not_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Method(**settings)


def test_live_peers_cannot_see_unmixed_images():
    method = method_of(ensemble_view="clean", ensemble_from="peers")
    with pytest.raises(InputError, match="only averaged networks see unmixed"):
        method.terms([small_network()] * 2)


def test_a_foreign_mixing_cannot_mix_answers():
    class Foreign(keras.layers.Layer):
        pass

    with pytest.raises(ValueError, match="Foreign cannot mix answers"):
        small_distiller(mixing=Foreign(), method=method_of(ensemble_view="clean"))


# Unmixed images, from the batch to the loss


@pytest.mark.parametrize("mixing", [CutNMix, CutMix, MixUp, FMix, None])
@pytest.mark.parametrize("own_views", [False, True])
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
def test_all_options_train_alike_eagerly_in_a_graph_and_under_xla():
    options = {
        "ensemble_members": "others",
        "ensemble_view": "clean",
    }
    logs = []
    for how in ({"run_eagerly": True}, {"jit_compile": False}, {"jit_compile": True}):
        mixing = CutNMix(2, num_classes=CLASSES, seed=0, probability=0.5, until_step=2)
        method = Method("cutnmix", options=options)
        settings = {"mixing": mixing, "method": method, "augment": CropAndFlip(seed=0)}
        model = compiled(small_distiller(**settings), 0.01, **how)
        logs.append([model.train_on_batch(*batch_of(i), return_dict=True) for i in range(3)][-1])
    assert logs[1] == pytest.approx(logs[0], rel=1e-3, abs=1e-4)
    assert logs[2] == pytest.approx(logs[0], rel=1e-3, abs=1e-4)
    assert logs[0]["teacher"] > 0
