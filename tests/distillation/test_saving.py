"""A saved model goes on as if there had been no break."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.distillation.small_models import (
    CLASSES,
    assert_same_state,
    compiled,
    compiled_views,
    images_of,
    small_distiller,
    state_of,
    train,
)
from tf_cutnmix import CropAndFlip, CutNMix, Method


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model after two steps, and its file. Keras itself does not save the state of dropout."""
    model = train(compiled(small_distiller(**compiled_views())), steps=2)
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model.save(path)
    return model, path


def test_a_loaded_model_holds_every_variable_and_setting(tmp_path):
    model = small_distiller(
        method=Method(
            "cutnmix", {"teacher": 0.5}, 4.0, ramp_steps=9, class_weights=[2.0] * CLASSES
        ),
        augment=CropAndFlip(0.2, flip=False, seed=4),
        mixing=CutNMix(2, alpha=0.3, num_classes=CLASSES, regions="spread", seed=6),
        name="two_peers",
    )
    train(compiled(model), steps=1).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same_state(loaded, state_of(model))
    # Keras saves the tuples of networks as lists.
    found, expected = ({**m.get_config(), "peers": []} for m in (loaded, model))
    assert found == expected
    assert loaded.method == model.method


def test_training_goes_on_after_loading_as_if_there_had_been_no_break(saved):
    loaded = train(keras.models.load_model(saved[1]), steps=2, seed=2)
    unbroken = train(compiled(small_distiller(**compiled_views())), steps=4)
    assert int(loaded.step.value) == 4
    assert_same_state(loaded, state_of(unbroken))


def test_a_model_exports_as_any_keras_model_does_before_it_was_called(tmp_path):
    model, images = small_distiller(), images_of(6)
    model.export(tmp_path / "export", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "export"))
    answer = loaded.serve(tf.constant(images, tf.float32))
    np.testing.assert_allclose(answer, model.predict(images, verbose=0), rtol=1e-5)
