"""What a run makes of its images: their splits, its batches, the weights of its classes."""

from typing import Any

import numpy as np

from tf_cutnmix.data import Images, draw, hold_out, load, own_validation
from tf_cutnmix.errors import InputError
from tf_cutnmix.runs.config import Config

_LARGEST_BATCH = 128
_SMALLEST_BATCH = 8
_BATCHES_AN_EPOCH = 8


def load_images(config: Config) -> tuple[Images, Images, Images]:
    """The images for training, for choosing the best epoch (there may be none), and for testing.

    The first have as `notes` what the user is to know about all of them.

    Raises:
      InputError: they cannot be read or do not fit together.
    """
    settings: dict[str, Any] = {
        name: getattr(config, name) for name in ("data_dir", "image_size", "cache_dir")
    }
    train = load(config.dataset, config.train_split, **settings)
    test = load(config.dataset, config.test_split, **settings)
    split = validation_split(config)
    own = [load(config.dataset, split, **settings)] if split else []
    if any(images.pixels.shape[1:] != train.pixels.shape[1:] for images in (test, *own)):
        raise InputError("training and test images differ in size: pass --image_size")
    train, test, *own = (images.with_facts() for images in (train, test, *own))
    train = train._replace(notes=(*train.notes, *twins(train, test, *own)))
    if own:
        validation = own[0]
    else:
        train, validation = hold_out(train, config.validation_fraction)
    if config.train_images:
        train = draw(train, config.train_images, config.seed)
    return train, validation, test


def validation_split(config: Config) -> str:
    """The split that is there to choose the best epoch on; "" where a part is held out for it."""
    if config.validation_split == "auto":
        return own_validation(config.dataset)
    return config.validation_split


def batch_size(config: Config, train: Images) -> int:
    """The images per step: what is set, or else what is right for so many images."""
    if config.batch_size is not None:
        return config.batch_size
    eighth = len(train.labels) // _BATCHES_AN_EPOCH
    return min(_LARGEST_BATCH, max(_SMALLEST_BATCH, 2 ** (max(eighth, 1).bit_length() - 1)))


def class_weights(train: Images) -> list[float]:
    """A weight for each class, so that all count as much; the mean over the images is 1."""
    shares = len(train.labels) / np.count_nonzero(train.counts)
    return (shares / np.maximum(train.counts, 1)).tolist()


def twins(train: Images, test: Images, *validation: Images) -> list[str]:
    """A line about images that are there twice, equal to the byte; none where none is.

    Args:
      train: the training images.
      test: the test images.
      *validation: those that choose the best epoch, where they have a split of their own.
    """
    digests = train.digests()
    seen = set(digests)
    found = []
    if repeated := len(digests) - len(seen):
        found.append(f"{repeated} of the {len(digests)} training images repeat others")
    others = [("test", test), *(("validation", images) for images in validation)]
    for name, images in others:
        if known := sum(digest in seen for digest in images.digests()):
            found.append(f"{known} of the {len(images.labels)} {name} images are training images")
    return [f"equal images: {'; '.join(found)}"] if found else []
