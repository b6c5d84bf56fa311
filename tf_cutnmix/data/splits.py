"""Splits of a data set by their names in TFDS syntax: "train", "train[:2000]", "train+test"."""

from collections.abc import Iterable, Mapping

import tensorflow_datasets as tfds

from tf_cutnmix.errors import InputError, first_line


def select(dataset: str, split: str, splits: Mapping[str, Iterable]) -> list:
    """The elements that a split in TFDS syntax names.

    Args:
      dataset: for the errors.
      split: such as "train[:2000]".
      splits: the elements of each whole split.

    Raises:
      InputError: there is no such split, or it selects nothing.
    """
    elements = {name: list(part) for name, part in splits.items()}
    sizes = {
        name: tfds.core.SplitInfo(
            name=name, shard_lengths=[len(part)], num_bytes=0, filename_template=None
        )
        for name, part in elements.items()
    }
    try:
        instructions = tfds.core.ReadInstruction.from_spec(split).to_absolute(sizes)
    except (ValueError, AssertionError) as error:
        raise InputError(f"{dataset}: {first_line(error)}") from error
    chosen = [e for part in instructions for e in elements[part.splitname][part.from_ : part.to]]
    some(len(chosen))
    return chosen


def some(count: int) -> int:
    """The number of images that a split selects; `InputError` if it is 0."""
    if not count:
        raise InputError("the split selects no images: widen --train_split or --test_split")
    return count
