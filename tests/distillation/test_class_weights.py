"""Weights of classes in the cross-entropies. Of the methods' terms they are in `test_methods`."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax

from tests.distillation.small_models import CLASSES, batch_of, compiled, small_distiller
from tf_cutnmix import Method

WEIGHTS = np.array([0.5, 2.0, 1.0, 3.0, 0.25], np.float32)


def test_a_step_weighs_its_mixed_labels() -> None:
    model = compiled(small_distiller(method=Method("cutnmix", class_weights=WEIGHTS.tolist())))
    images, labels = batch_of(0)
    views, mixed, *_ = model.make_views(tf.constant(images), tf.constant(labels), tf.constant(0))
    outputs = model.run_peers(views, training=True)
    costs = [-log_softmax(output["logits"].numpy(), axis=-1) for output in outputs]
    expected = sum(np.mean(np.sum(mixed.numpy() * WEIGHTS * cost, axis=-1)) for cost in costs)
    step = model.train_on_batch(images, labels, return_dict=True)
    assert step["cross_entropy"] == pytest.approx(expected, rel=1e-4)


def test_the_weights_of_a_method_reach_the_cross_entropy_and_no_other_term() -> None:
    plain, weighted = (
        compiled(small_distiller(method=Method("cutnmix", class_weights=weights))).train_on_batch(
            *batch_of(0), return_dict=True
        )
        for weights in ((), (2.0,) * CLASSES)
    )
    assert weighted["cross_entropy"] == pytest.approx(2 * plain["cross_entropy"], rel=1e-5)
    assert weighted["teacher"] == pytest.approx(plain["teacher"], rel=1e-5)
