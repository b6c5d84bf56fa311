"""The images of a run, and whether they are those that it was begun on."""

import zlib
from collections import Counter
from typing import NamedTuple

import numpy as np

from tf_cutnmix.data import Images
from tf_cutnmix.errors import InputError, listed
from tf_cutnmix.escaping import composed
from tf_cutnmix.runs.checkpoints import Checkpoint
from tf_cutnmix.runs.config import Config

_NAMED = 5


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
