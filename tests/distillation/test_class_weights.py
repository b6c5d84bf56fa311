"""Weights of classes in the cross-entropies."""

import numpy as np
import pytest
import tensorflow as tf

from tests.distillation.small_models import CLASSES, batch_of, compiled, small_distiller
from tf_cutnmix import Method
from tf_cutnmix.distillation.method import Forward, Part
from tf_cutnmix.distillation.terms import ensemble_terms, peers_cross_entropy

WEIGHTS = np.array([0.5, 2.0, 1.0, 3.0, 0.25], np.float32)
RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(2, 4, CLASSES)).astype(np.float32)


def negative_log_softmax(logits: np.ndarray) -> np.ndarray:
    return np.log(np.exp(logits).sum(axis=-1, keepdims=True)) - logits


def test_a_mixed_label_weighs_each_of_its_two_classes_by_its_own_weight() -> None:
    first, second, share = (
        np.array([0, 1, 2, 3]),
        np.array([3, 1, 0, 4]),
        np.array([0.3, 0, 1, 0.5]),
    )
    one_hot = np.eye(CLASSES, dtype=np.float32)
    labels = (1 - share)[:, None] * one_hot[first] + share[:, None] * one_hot[second]
    outputs = [{"logits": tf.constant(logits)} for logits in LOGITS]
    forward = Forward(
        tf.constant(0), tf.constant(labels, tf.float32), [], outputs, counted=labels * WEIGHTS
    )
    rows = np.arange(4)
    costs = [negative_log_softmax(logits) for logits in LOGITS]
    expected = sum(
        np.mean(
            (1 - share) * WEIGHTS[first] * cost[rows, first]
            + share * WEIGHTS[second] * cost[rows, second]
        )
        for cost in costs
    )
    np.testing.assert_allclose(peers_cross_entropy(forward), expected, rtol=1e-5)

    forward = forward._replace(parts={"gate": tf.constant(LOGITS[0])})
    learns, _ = ensemble_terms(Part("gate"), Method("cutnmix"))
    own = np.mean(np.sum(labels * WEIGHTS * costs[0], axis=-1))
    np.testing.assert_allclose(learns.loss(forward), own, rtol=1e-5)


def test_a_step_weighs_its_mixed_labels() -> None:
    model = compiled(small_distiller(method=Method("cutnmix", class_weights=WEIGHTS.tolist())))
    images, labels = batch_of(0)
    views, mixed, *_ = model.make_views(tf.constant(images), tf.constant(labels), tf.constant(0))
    costs = [
        negative_log_softmax(output["logits"].numpy())
        for output in model.run_peers(views, training=True)
    ]
    expected = sum(np.mean(np.sum(mixed.numpy() * WEIGHTS * cost, axis=-1)) for cost in costs)
    step = model.train_on_batch(images, labels, return_dict=True)
    assert step["cross_entropy"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("weights", [(), (2.0,) * CLASSES])
def test_the_weights_of_a_method_reach_the_cross_entropy_and_no_other_term(weights) -> None:
    def first_step(method: Method) -> dict[str, float]:
        model = compiled(small_distiller(method=method))
        return model.train_on_batch(*batch_of(0), return_dict=True)

    plain = first_step(Method("cutnmix"))
    weighted = first_step(Method("cutnmix", class_weights=weights))
    factor = 2 if weights else 1
    assert weighted["cross_entropy"] == pytest.approx(factor * plain["cross_entropy"], rel=1e-5)
    assert weighted["teacher"] == pytest.approx(plain["teacher"], rel=1e-5)


def test_a_distiller_is_rebuilt_with_its_weights() -> None:
    model = small_distiller(method=Method("cutnmix", class_weights=WEIGHTS.tolist()))
    again = type(model).from_config(model.get_config())
    assert list(again.method.class_weights) == WEIGHTS.tolist()
