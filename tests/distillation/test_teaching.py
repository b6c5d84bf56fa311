"""Averaged networks that teach: whose their statistics are, and that short runs do not break."""

import math

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.tiny_peers import CLASSES, tiny_peer
from tf_cutnmix import Config, CutNMix, Method, OnlineDistiller, train_and_evaluate
from tf_cutnmix.distillation.method import METHODS

TEACHER = "savedmodels/digits_resnet8/1"


def digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    images = np.clip(data.images[:count, ..., np.newaxis] * 16, 0, 255).astype("uint8")
    return images.repeat(3, axis=-1), data.target[:count].astype("int32")


def distiller(method: Method | str, rate: float, momentum: float, **how) -> OnlineDistiller:
    model = OnlineDistiller(
        [tiny_peer(16, stem=8), tiny_peer(16, stem=8)],
        CutNMix(2, num_classes=CLASSES, seed=0),
        method,
        momentum=momentum,
        weight_decay=5e-4,
    )
    optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
    model.compile(optimizer, **how)
    return model


def statistics_of(network: keras.Model) -> list[np.ndarray]:
    """Copies of the moving means and variances."""
    return [v.numpy().copy() for v in network.weights if "moving" in v.path]


def trained_by_hand(method: Method | str) -> tuple[list, list]:
    """The first average's statistics after three steps; the plain mean of the peer's."""
    model = distiller(method, rate=0.1, momentum=0.9, run_eagerly=True)
    images, labels = digits(32)
    of_peer = []
    for _ in range(3):
        model.train_on_batch(images, labels)
        of_peer.append(statistics_of(model.peers[0]))
    means = [np.mean(values, axis=0) for values in zip(*of_peer, strict=True)]
    return statistics_of(model.averages[0]), means


@pytest.mark.long
def test_the_teacher_stays_better_than_a_guess_at_a_high_rate():
    method = Method("cutnmix", ramp_steps=50)
    model = distiller(method, rate=0.3, momentum=0.5, jit_compile=False)
    images, labels = digits(320)
    for _ in range(10):
        model.fit(images, labels, batch_size=16, verbose=0, shuffle=False)
        assert model.evaluate(images, labels, verbose=0)[0] < math.log(CLASSES)
    assert int(model.step.value) == 200


@pytest.mark.parametrize("method", ["independent", "dml", Method("cutnmix", {"teacher": 0.0})])
def test_statistics_of_averages_that_nobody_looks_at_are_the_average_of_the_peers(method):
    for found, mean in zip(*trained_by_hand(method), strict=True):
        np.testing.assert_allclose(found, mean, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["cutnmix", Method("cutnmix", {"teacher": 0.1, "feature": 0})])
def test_statistics_of_averages_that_teach_are_their_own(method):
    for found, mean in zip(*trained_by_hand(method), strict=True):
        assert np.abs(found - mean).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_teacher_is_about_as_good_as_the_ensemble_after_a_short_run(method, tmp_path):
    config = Config(
        method=method,
        num_peers=3,
        epochs=30,
        teacher=TEACHER,
        export="",
        workdir=str(tmp_path / "run"),
    )
    test = train_and_evaluate(config)["last"]["test"]
    assert test["teacher_accuracy"] == pytest.approx(test["ensemble_accuracy"], abs=0.03)
