"""What several tests of this wing rely on."""

import keras
import pytest

from tests.networks.small_networks import (
    small_network,
)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return small_network("resnet8")
