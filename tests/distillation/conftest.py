"""What several tests of this wing rely on."""

import keras
import pytest

from tests.distillation.small_models import graph_of, regularised, train
from tf_cutnmix import OnlineDistiller


@pytest.fixture(scope="module")
def trained() -> OnlineDistiller:
    """Trained for three steps, so that peers and averages differ. Only read it."""
    return train(graph_of(regularised()), steps=3)


@pytest.fixture
def policy():
    """Sets a dtype policy for one test."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)
