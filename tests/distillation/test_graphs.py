"""How TensorFlow prepares the graph of a training step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.distillation.small_models import (
    batch_of,
    compiled,
    graph_of,
    small_distiller,
    train,
    values_of,
)
from tf_cutnmix import CutNMix
from tf_cutnmix.distillation import distiller


def is_left_as_traced() -> bool:
    return tf.config.optimizer.get_experimental_options()["disable_meta_optimizer"]


class Watch(keras.layers.Layer):
    """Augments nothing and notes how it was called."""

    seen: list[bool]

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        self.seen.append(is_left_as_traced())
        return images


@pytest.fixture
def watch() -> Watch:
    layer = Watch()
    layer.seen = []
    return layer


def test_a_training_step_is_left_as_traced_and_nothing_else(watch: Watch) -> None:
    model = graph_of(small_distiller(augment=watch))
    images, labels = batch_of(0)
    after = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_, **logs: after.append(is_left_as_traced())
    )
    model.fit(images, labels, batch_size=2, verbose=0, callbacks=[note])
    model.train_on_batch(images, labels)
    assert watch.seen
    assert all(watch.seen)
    assert after == [False, False]
    assert not is_left_as_traced()


@pytest.mark.long
def test_a_step_that_xla_compiles_is_prepared_as_ever(watch: Watch) -> None:
    mixing = CutNMix(2, seed=0)
    model = compiled(small_distiller(augment=watch, mixing=mixing), jit_compile=True)
    train(model, steps=1)
    assert watch.seen
    assert not any(watch.seen)


def test_what_a_user_chose_is_kept_also_when_a_step_fails() -> None:
    def fail() -> None:
        assert is_left_as_traced()
        raise RuntimeError("a step")

    for chosen in (True, False):
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": chosen})
        with pytest.raises(RuntimeError, match="a step"):
            distiller.called_as_traced(fail)()
        assert is_left_as_traced() == chosen


@pytest.mark.long
def test_a_step_is_the_same_as_tensorflow_would_have_made_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = train(graph_of(small_distiller()), steps=3)
    with monkeypatch.context() as patch:
        patch.setattr(tf.config, "list_physical_devices", lambda kind=None: [kind])
        optimised = train(graph_of(small_distiller()), steps=3)
    assert hasattr(left.train_function, "__wrapped__")
    assert not hasattr(optimised.train_function, "__wrapped__")
    for found, expected in zip(values_of(left), values_of(optimised), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
