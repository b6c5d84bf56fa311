"""What a run is, once its images are known."""

import numpy as np
import pytest

from tf_cutnmix.data import Images
from tf_cutnmix.runs.config import Config
from tf_cutnmix.runs.loading import Splits
from tf_cutnmix.runs.plan import resolve


@pytest.mark.parametrize(
    ("settings", "size", "augment", "crop"),
    [
        ({}, (64, 200), "none", 0.125),
        ({}, (65, 65), "photo", 0.0),
        ({"dataset": "omniglot"}, (105, 105), "none", 0.125),
        ({"augment": "photo"}, (32, 32), "photo", 0.0),
        ({"augment": "none"}, (65, 65), "none", 0.0),
        ({"augment": "augmix"}, (32, 32), "augmix", 0.125),
        ({"crop": 0.25}, (65, 65), "none", 0.25),
        ({"crop": 0.0}, (32, 32), "none", 0.0),
    ],
)
def test_padded_crops_are_for_small_images_and_resized_ones_for_photos(
    settings, size, augment, crop
) -> None:
    images = Images(np.zeros((8, *size, 3), np.uint8), np.arange(8) % 2, ("a", "b"))
    config = resolve(
        Config(**{"dataset": "./x", "epochs": 1, **settings}), Splits(images, images, images)
    ).config
    assert (config.augment, config.crop) == (augment, crop)
    assert f"--augment={augment}\n" in config.flagfile()


def test_each_fold_has_a_folder_of_its_own() -> None:
    folders = [Config(fold=fold).folder for fold in ("", "1/5", "2/5")]
    assert folders[1:] == [f"{folders[0]}_fold{number}of5" for number in (1, 2)]
