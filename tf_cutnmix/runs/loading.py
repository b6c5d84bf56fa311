"""The images of a run: its splits, and whether they are those it was begun on."""

import zlib
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf

from tf_cutnmix.data import (
    Images,
    draw,
    fold,
    hold_out,
    load,
    load_unlabelled,
    ordered_batches,
    own_validation,
)
from tf_cutnmix.errors import InputError, listed
from tf_cutnmix.escaping import composed, one_line
from tf_cutnmix.runs import outlook, scores
from tf_cutnmix.runs.checkpoints import Checkpoint
from tf_cutnmix.runs.config import Config

_NAMED = 3


class Splits(NamedTuple):
    """The images of a run.

    Attributes:
      train: that are labelled.
      validation: it may hold none.
      test: for the final figures.
      unlabelled: to train on as well; None where no such images are asked for.
    """

    train: Images
    validation: Images
    test: Images
    unlabelled: Images | None = None

    def present(self) -> dict[str, Images]:
        """The splits that there are, by name."""
        return {name: images for name, images in self._asdict().items() if images is not None}

    def labelled(self) -> dict[str, Images]:
        """The splits whose images have labels, by name."""
        return {name: images for name, images in self.present().items() if images.class_names}

    def counts(self) -> dict[str, list[int]]:
        """How many images of each class each labelled split has, in the order of the classes."""
        return {name: images.counts.tolist() for name, images in self.labelled().items()}

    def checksums(self) -> list[int]:
        """Of all images and labels."""
        contents = [
            b"".join([*images.digests(), images.labels.tobytes()])
            for images in self.present().values()
        ]
        return [zlib.crc32(content) for content in contents]

    def fingerprints(self) -> list[np.ndarray]:
        """What tells the images of each split from others, as `Images.fingerprints` has it."""
        return [images.fingerprints() for images in self.present().values()]

    def contradictions(self) -> pd.DataFrame:
        """The images that are equal to the byte and in several classes: one label is wrong.

        A row each: `picture` counts what is equal, from 1; `file`, `class` and `split` are text.
        """
        names, each = zip(*self.labelled().items(), strict=True)
        every = pd.DataFrame(
            {
                "split": np.repeat(names, [len(images.labels) for images in each]),
                "position": np.concatenate([np.arange(len(images.labels)) for images in each]),
                "label": np.concatenate([images.labels for images in each]),
                "digest": [digest for images in each for digest in images.digests()],
            }
        )
        several = every.groupby("digest", sort=False)["label"].transform("nunique") > 1
        found = every[several].copy()
        found["picture"] = 1 + pd.factorize(found["digest"])[0]
        found = found.sort_values("picture", kind="stable")
        found["file"] = [
            getattr(self, split).name(position)
            for split, position in zip(found["split"], found["position"], strict=True)
        ]
        found["class"] = [self.train.class_names[label] for label in found["label"]]
        return found[["picture", "file", "class", "split"]]


def load_splits(config: Config, earlier: Checkpoint | None = None) -> Splits:
    """The images of a run; those for training have as `notes` what is to be known of all of them.

    Raises:
      InputError: they cannot be read, do not fit together, or are not those of an earlier
        checkpoint.
    """
    settings: dict[str, Any] = {
        name: getattr(config, name) for name in ("data_dir", "image_size", "resize", "cache_dir")
    }
    names = {"train": config.train_split, "test": config.test_split}
    if config.fold:
        names = {"train": f"{config.train_split}+{config.test_split}"}
    if own := validation_split(config):
        names["validation"] = own
    loaded = {name: load(config.dataset, split, **settings) for name, split in names.items()}
    if config.unlabelled:
        loaded["unlabelled"] = load_unlabelled(config.dataset, config.unlabelled, **settings)
    if len({images.pixels.shape[1:] for images in loaded.values()}) > 1:
        others = ", unlabelled" if config.unlabelled else ""
        raise InputError(f"training{others} and test images differ in size: pass --image_size")
    loaded = {name: images.with_facts() for name, images in loaded.items()}
    unlabelled = loaded.pop("unlabelled", None)
    if config.fold:
        number, folds = map(int, config.fold.split("/"))
        loaded["train"], loaded["test"] = fold(loaded["train"], number, folds, config.seed)
    notes = (*loaded["train"].notes, *_repeated(**loaded))
    if not own:
        loaded["train"], loaded["validation"] = hold_out(
            loaded["train"], config.validation_fraction
        )
    if config.train_images:
        loaded["train"] = draw(loaded["train"], config.train_images, config.seed)
    splits = Splits(**loaded)
    if unlabelled is not None:
        unlabelled = _unseen(unlabelled, splits)
        splits = splits._replace(unlabelled=unlabelled)
        notes = (*notes, *unlabelled.notes)
    if earlier:
        _check_same(earlier, splits, config)
    notes = (*notes, *_contradicting(splits.contradictions(), config.folder))
    notes = (*notes, *outlook.lacking(splits.train.class_names, splits.counts()))
    return splits._replace(train=splits.train._replace(notes=notes))


def validation_split(config: Config) -> str:
    """The split that is there to choose the best epoch on; "" where a part is held out for it."""
    if config.validation_split == "auto":
        return own_validation(config.dataset)
    return config.validation_split


def for_evaluation(images: Images) -> tf.data.Dataset:
    """Batches of all images once, the smaller the larger the images are: all networks see them."""
    return ordered_batches(images, scores.images_at_once(*images.pixels.shape[1:3]))


def changes(earlier: Checkpoint, splits: Splits) -> str:
    """In words, what has become of the images that a run was begun on; "" if nothing is known."""
    if not earlier.images:
        return ""
    before, now = earlier.images, splits.fingerprints()
    pairs = zip(splits.present(), before, now, strict=True)
    if not (changed := [name for name, was, found in pairs if not np.array_equal(was, found)]):
        return ""
    before_rows, rows = (list(map(tuple, np.concatenate(p).tolist())) for p in (before, now))
    removed, added = (Counter(content for content, _ in part) for part in (before_rows, rows))
    counts = {"removed": (removed - added).total(), "added": (added - removed).total()}
    relabelled = (Counter(rows) - Counter(before_rows)).total() - counts["added"]
    counts["in another class"] = relabelled
    shown = ", ".join(f"{count} {words}" for words, count in counts.items() if count)
    return f"{shown or 'in another order'} ({', '.join(changed)})"


def _repeated(train: Images, **others: Images) -> list[str]:
    """A line about images that are there twice in a class, equal to the byte, if there are any."""

    def labelled(images: Images) -> list[tuple[bytes, int]]:
        return list(zip(images.digests(), images.labels.tolist(), strict=True))

    trained = labelled(train)
    seen = set(trained)
    found = []
    if repeats := len(trained) - len(seen):
        found.append(f"{repeats} of the {len(trained)} training images repeat others")
    for name, images in others.items():
        if known := sum(one in seen for one in labelled(images)):
            found.append(f"{known} of the {len(images.labels)} {name} images are training images")
    return [f"equal images: {'; '.join(found)}"] if found else []


def _unseen(unlabelled: Images, splits: Splits) -> Images:
    """Unlabelled images but those, equal to the byte, that are to judge what is learnt.

    Raises:
      InputError: there are no others.
    """
    judging = {*splits.validation.digests(), *splits.test.digests()}
    others = np.array([digest not in judging for digest in unlabelled.digests()])
    if not others.any():
        raise InputError("--unlabelled holds validation and test images alone: name others")
    if others.all():
        return unlabelled
    left_out = np.count_nonzero(~others)
    note = f"unlabelled: left out {left_out} of {len(others)} that are validation or test images"
    return unlabelled.select(np.flatnonzero(others))._replace(notes=(*unlabelled.notes, note))


def _contradicting(found: pd.DataFrame, folder: str) -> list[str]:
    """A line about equal images of several classes, the first of them named; none without any."""
    if found.empty:
        return []
    shown = [
        " and ".join(
            f"{one_line(row['file'])} ({one_line(row['class'])})" for _, row in rows.iterrows()
        )
        for _, rows in found.groupby("picture")
    ]
    return [
        f"equal images of several classes, of which one is wrong: {listed(shown, _NAMED)}: "
        f"{folder}/contradictions.csv"
    ]


def _check_same(earlier: Checkpoint, splits: Splits, config: Config) -> None:
    """Raise `InputError` if a run was begun on other classes, or other images unless accepted."""
    names = earlier.facts["class_names"], splits.train.class_names
    before, now = (list(map(composed, of_run)) for of_run in names)
    if before != now:
        gone, new = (
            listed(list(map(repr, sorted(set(a) - set(b)))), 5) or "none"
            for a, b in ((before, now), (now, before))
        )
        raise InputError(
            f"{config.folder} was begun on {len(before)} classes and {config.dataset} now holds "
            f"{len(now)}, with {new} in place of {gone}: train a new run"
        )
    if not config.new_images and (changed := changes(earlier, splits)):
        raise InputError(
            f"{config.dataset} holds other images than {config.folder} was begun on: {changed}; "
            "undo that, train a new run, or pass --new_images to go on with what is there"
        )
