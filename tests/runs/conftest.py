"""What several tests of this wing rely on."""

import pytest

from tf_cutnmix import data


@pytest.fixture(scope="module")
def training_images() -> data.Images:
    images = data.load("digits", "train[:240]")
    train, _ = data.hold_out(images, 0.4)
    return train
