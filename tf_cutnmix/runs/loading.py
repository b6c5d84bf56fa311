"""The images of a run: its splits, whether they are those it was begun on, its batches."""

import zlib
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_cutnmix.data import (
    Images,
    draw,
    hold_out,
    load,
    ordered_batches,
    own_validation,
    shuffled_batches,
)
from tf_cutnmix.errors import InputError, listed
from tf_cutnmix.escaping import composed
from tf_cutnmix.runs import outlook, scores
from tf_cutnmix.runs.checkpoints import Checkpoint
from tf_cutnmix.runs.config import Config

_NAMED = 5
_LARGEST_BATCH = 128
_SMALLEST_BATCH = 8
_BATCHES_AN_EPOCH = 8


class Splits(NamedTuple):
    """The images of a run; `validation` may hold none."""

    train: Images
    validation: Images
    test: Images

    def counts(self) -> dict[str, list[int]]:
        """How many images of each class each split has, in the order of the classes."""
        return {name: images.counts.tolist() for name, images in self._asdict().items()}

    def checksums(self) -> list[int]:
        """Of all images and labels."""
        told = [b"".join([*images.digests(), images.labels.tobytes()]) for images in self]
        return [zlib.crc32(content) for content in told]

    def fingerprints(self) -> list[np.ndarray]:
        """What tells the images of each split from others, as `Images.fingerprints` has it."""
        return [images.fingerprints() for images in self]


def check_classes(earlier: Checkpoint, splits: Splits, config: Config) -> None:
    """Raise `InputError` if the run was begun on other classes."""
    names = earlier.facts["class_names"], splits.train.class_names
    before, now = (list(map(composed, of_run)) for of_run in names)
    if before != now:
        gone, new = sorted(set(before) - set(now)), sorted(set(now) - set(before))
        raise InputError(
            f"{config.folder} was begun on {len(before)} classes and {config.dataset} now holds "
            f"{len(now)}, with {_names(new)} in place of {_names(gone)}: train a new run"
        )


def check_images(earlier: Checkpoint, splits: Splits, config: Config) -> None:
    """Raise `InputError` if the run was begun on other images, unless that is as it should be."""
    if not config.new_images and (changed := changes(earlier, splits)):
        raise InputError(
            f"{config.dataset} holds other images than {config.folder} was begun on: {changed}; "
            "undo that, train a new run, or pass --new_images to go on with what is there"
        )


def changes(earlier: Checkpoint, splits: Splits) -> str:
    """In words, what has become of the images that a run was begun on; "" if nothing is known."""
    if not earlier.images:
        return ""
    before, now = earlier.images, splits.fingerprints()
    pairs = zip(Splits._fields, before, now, strict=True)
    if not (changed := [name for name, was, found in pairs if not np.array_equal(was, found)]):
        return ""
    old, new = (Counter(map(tuple, np.concatenate(told).tolist())) for told in (before, now))
    removed, added = _without_labels(old), _without_labels(new)
    counts = {"removed": (removed - added).total(), "added": (added - removed).total()}
    counts["in another class"] = (new - old).total() - counts["added"]
    told = ", ".join(f"{count} {words}" for words, count in counts.items() if count)
    return f"{told or 'in another order'} ({', '.join(changed)})"


def _without_labels(images: Counter) -> Counter:
    contents: Counter = Counter()
    for (content, _), count in images.items():
        contents[content] += count
    return contents


def _names(classes: list[str]) -> str:
    return listed(list(map(repr, classes)), _NAMED) or "none"


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


def load_splits(config: Config, earlier: Checkpoint | None = None) -> Splits:
    """The images of a run; those for training have `notes` about all of them.

    Raises:
      InputError: they cannot be read, do not fit together, are fewer than a batch, or are not those
        of an earlier checkpoint.
    """
    splits = Splits(*load_images(config))
    if earlier:
        check_classes(earlier, splits, config)
        check_images(earlier, splits, config)
    train = splits.train
    size = batch_size(config, train)
    if size > len(train.pixels):
        raise InputError(
            f"--batch_size={size} is larger than the {len(train.pixels)} training images: lower it"
        )
    lacking = outlook.lacking(train.class_names, splits.counts())
    return splits._replace(train=train._replace(notes=(*train.notes, *lacking)))


def training_batches(
    splits: Splits, config: Config, first_epoch: int, first_batch: int = 0
) -> tf.data.Dataset:
    """Endless batches of the training images, from a batch of an epoch on."""
    return shuffled_batches(
        splits.train,
        batch_size(config, splits.train),
        seed=config.seed,
        first_epoch=first_epoch,
        balanced=config.balance == "sampling",
    ).skip(first_batch)


def for_evaluation(images: Images) -> tf.data.Dataset:
    """Batches of all images once, the smaller the larger the images are: all networks see them."""
    return ordered_batches(images, scores.images_at_once(*images.pixels.shape[1:3]))


def steps_per_epoch(train: Images, config: Config) -> int:
    """Whole batches in the training images."""
    return len(train.pixels) // batch_size(config, train)
