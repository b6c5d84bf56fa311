"""Images without a label in a batch: what is learnt from them, and what is not."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, softmax

from tests.distillation.small_models import CLASSES, compiled, images_of, labels_of, small_distiller
from tf_cutnmix import CropAndFlip, CutMix, CutNMix, FMix, Method, MixUp
from tf_cutnmix.errors import InputError

ROWS = 6
LABELLED = np.array([False, True, True, False, False, True])
IMAGES = images_of(ROWS).astype("float32")
LABELS = np.float32(np.eye(CLASSES)[labels_of(ROWS)] * LABELLED[:, None])
BATCH = tuple(map(tf.constant, (IMAGES, LABELS)))
STEP = tf.constant(0, tf.int64)


@pytest.mark.parametrize("mixing", [CutNMix, CutMix, MixUp, FMix, None])
def test_what_is_mixed_has_a_whole_label_or_none(mixing):
    layer = mixing and mixing(alpha=1.0, seed=4)
    shown = small_distiller(mixing=layer, method="dml").make_views(*BATCH, STEP)
    np.testing.assert_allclose(np.sum(shown.labels, axis=1), LABELLED, atol=1e-6)
    if layer:
        mixed = layer({"images": IMAGES, "labels": LABELS}, step=0)
        np.testing.assert_array_equal(mixed["labels"], shown.labels)
        assert np.any(np.asarray(shown.labels) != LABELS)


@pytest.mark.parametrize("mixing", [CutNMix, MixUp, None])
def test_their_term_is_the_cross_entropy_to_the_sharpened_answers_mixed(mixing):
    layer = mixing and mixing(alpha=1.0, seed=4)
    augment = CropAndFlip(seed=5)
    method = Method("cutnmix", unlabelled=True, unlabelled_ramp_steps=3, ramp_steps=2)
    model = compiled(small_distiller(mixing=layer, augment=augment, method=method))
    views, *_ = model.make_views(*BATCH, STEP)
    clean = augment(IMAGES, step=0)
    answers = [n(clean, training=True)["logits"].numpy().astype("f8") for n in model.averages]
    squares = np.mean(softmax(answers, -1), 0) ** 2
    # One-hot labels say what part of whose answer is in each sample.
    whose = np.eye(ROWS, dtype="float32")
    if layer:
        draw = layer.draw_for({"images": IMAGES, "labels": LABELS}, 0)
        whose = np.float64(layer.mix_labels(whose, draw, 8, 8))
    target = whose @ (squares / squares.sum(-1, keepdims=True))
    expected = 0.0
    for peer, view in zip(model.peers, views, strict=True):
        predicted = log_softmax(peer(view, training=True)["logits"].numpy().astype("f8"), -1)
        expected -= np.mean(np.sum(target * predicted, -1)[~LABELLED])
    logs = model.train_on_batch(IMAGES, LABELS, return_dict=True)
    assert logs["unlabelled"] == pytest.approx(np.exp(-5) * expected, rel=1e-4)


def test_without_any_in_a_batch_their_term_is_zero_and_without_others_the_labels():
    model = compiled(small_distiller(method=Method("cutnmix", unlabelled=True)))
    logs = model.train_on_batch(IMAGES, np.eye(CLASSES)[labels_of(ROWS)], return_dict=True)
    assert logs["unlabelled"] == 0 < logs["cross_entropy"]
    logs = model.train_on_batch(IMAGES, 0 * LABELS, return_dict=True)
    assert logs["cross_entropy"] == 0 < logs["unlabelled"]


def test_they_are_not_evaluated():
    model = compiled(small_distiller())
    weights = np.arange(1.0, ROWS + 1)
    for own in (None, weights):
        found = model.evaluate(IMAGES, LABELS, 4, 0, sample_weight=own, return_dict=True)
        kept = None if own is None else own[LABELLED]
        images, labels = IMAGES[LABELLED], LABELS[LABELLED]
        expected = model.evaluate(images, labels, 4, 0, sample_weight=kept, return_dict=True)
        assert found == pytest.approx(expected, rel=1e-6)


def test_what_cannot_be_had_with_them_is_refused():
    options = {"ensemble_view": "mixed"}
    with pytest.raises(InputError, match="--ensemble_view=mixed: with --unlabelled averaged"):
        small_distiller(method=Method("cutnmix", options=options, unlabelled=True))

    class Foreign(keras.layers.Layer):
        pass

    with pytest.raises(ValueError, match=r"Foreign cannot mix .* images without a label apart"):
        small_distiller(mixing=Foreign(), method=Method("dml", unlabelled=True))


@pytest.mark.long
def test_steps_under_xla_are_those_of_eager_execution():
    logs = []
    for how in ({"run_eagerly": True}, {"jit_compile": True}):
        method = Method("cutnmix", unlabelled=True, unlabelled_ramp_steps=2)
        settings = {"augment": CropAndFlip(seed=0), "mixing": CutNMix(2, seed=0), "method": method}
        model = compiled(small_distiller(**settings), 0.01, **how)
        logs.append([model.train_on_batch(IMAGES, LABELS, return_dict=True) for _ in range(3)][-1])
    assert logs[1] == pytest.approx(logs[0], rel=1e-3, abs=1e-4)
    assert logs[0]["unlabelled"] > 1
