"""What several tests of this wing rely on."""

import keras
import pytest

from tests.tiny_peers import tiny_peer


@pytest.fixture(scope="module")
def pair() -> list[keras.Model]:
    return [tiny_peer(), tiny_peer()]
