"""Splits of a data set by their names in TFDS syntax: "train", "train[:2000]", "train+test"."""

import heapq
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
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


def in_proportion(labels: Sequence[int]) -> list[int]:
    """Positions `[N]` of labels in an order that is drawn, the same one for the same labels.

    Of its first n each class has its share of all, `n * count / N`, rounded up or down.
    """
    drawn = np.random.default_rng(0).permutation(len(labels)).tolist()
    counts, seen = np.bincount(labels).tolist(), [0] * (1 + max(labels))
    waiting = []
    for position in drawn:
        label = labels[position]
        # Of its class it is the next one: not sooner than the share is above its number, nor later.
        first, last = seen[label] * len(labels), (seen[label] + 1) * len(labels)
        waiting.append((first // counts[label], -(-last // counts[label]), position))
        seen[label] += 1
    waiting.sort(reverse=True)
    order: list[int] = []
    due: list[tuple[int, int]] = []
    while len(order) < len(labels):
        while waiting and waiting[-1][0] <= len(order):
            heapq.heappush(due, waiting.pop()[1:])
        order.append(heapq.heappop(due)[1])
    return order


def some(count: int) -> int:
    """The number of images that a split selects; `InputError` if it is 0."""
    if not count:
        raise InputError("the split selects no images: widen --train_split or --test_split")
    return count
