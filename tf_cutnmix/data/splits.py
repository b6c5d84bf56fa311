"""Which images are where: splits in TFDS syntax, a part that is held out, some that are drawn."""

import collections
import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds
from sklearn.model_selection import StratifiedKFold

from tf_cutnmix.data.images import Images
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
    not_empty(len(chosen))
    return chosen


def in_proportion(labels: Sequence[int]) -> list[int]:
    """Positions `[N]` of labels in an order that is drawn, the same one for the same labels.

    Of its first n each class has its share of all, `n * count / N`, rounded up or down.
    """
    counts, seen = np.bincount(labels).tolist(), [0] * (1 + max(labels))
    waiting = []
    for position in np.random.default_rng(0).permutation(len(labels)).tolist():
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


def not_empty(count: int) -> int:
    """The number of images that a split selects; `InputError` if it is 0."""
    if not count:
        raise InputError(
            "the split selects no images: widen --train_split, --test_split or --unlabelled"
        )
    return count


def hold_out(images: Images, fraction: float) -> tuple[Images, Images]:
    """Cut a validation set from a training set, the same one for every seed.

    It has this fraction of each class, and at least one image of a class that has two; images that
    are equal to the byte are on the same side.

    Args:
      images: `N` of them.
      fraction: in [0, 1).

    Returns:
      The rest for training, and the validation set.
    """
    counts = images.counts
    shares = _apportioned(fraction * counts, round(fraction * counts.sum()))
    wanted = np.clip(shares, counts > 1, np.maximum(counts - 1, 0)) if fraction else 0 * counts
    held = np.zeros_like(counts)
    chosen = np.zeros(len(images.labels), bool)

    def fit(twins: list[int], most: np.ndarray) -> bool:
        added = collections.Counter(images.labels[twins].tolist())
        return all(held[label] + more <= most[label] for label, more in added.items())

    def take(twins: list[int]) -> None:
        chosen[twins] = True
        np.add.at(held, images.labels[twins], 1)

    digests = images.digests()
    together = collections.defaultdict(list)
    for position in np.random.default_rng(0).permutation(len(digests)).tolist():
        together[digests[position]].append(position)
    for twins in together.values():
        if fit(twins, wanted):
            take(twins)
    for label in np.flatnonzero((held == 0) & (wanted > 0)):
        # Twins that are more than the class's share, where it has no others.
        own = [twins for twins in together.values() if label in images.labels[twins]]
        fitting = [twins for twins in sorted(own, key=len) if fit(twins, counts - 1)]
        if fitting and not held[label]:
            take(fitting[0])
    return images.select(np.flatnonzero(~chosen)), images.select(np.flatnonzero(chosen))


def fold(images: Images, number: int, folds: int, seed: int) -> tuple[Images, Images]:
    """All images but those of one of several folds, and that one.

    Every fold has its share of each class; images that are equal to the byte are in the same one.

    Args:
      images: of which each class that has any has one for each fold or more.
      number: of the fold, from 1.
      folds: 2 or more.
      seed: that the folds are drawn by.

    Raises:
      InputError: a class has too few images.
    """
    _, first, same = np.unique(images.digests(), return_index=True, return_inverse=True)
    present, counts = np.unique(images.labels[first], return_counts=True)
    if counts.min() < folds:
        fewest = images.class_names[present[counts.argmin()]]
        raise InputError(
            f"--fold={number}/{folds}: the class {fewest!r} has {counts.min()} images that differ, "
            "and each fold needs one: make fewer folds"
        )
    drawn = StratifiedKFold(folds, shuffle=True, random_state=seed).split(
        first, images.labels[first]
    )
    _, own = next(itertools.islice(drawn, number - 1, None))
    chosen = np.isin(same, own)
    return images.select(np.flatnonzero(~chosen)), images.select(np.flatnonzero(chosen))


def draw(images: Images, count: int, seed: int) -> Images:
    """A random choice of `count` images, of each class in proportion and at least one.

    Raises:
      InputError: there are fewer images, or more classes that have images.
    """
    counts = images.counts
    least = np.minimum(counts, 1)
    if not least.sum() <= count <= counts.sum():
        raise InputError(
            f"--train_images={count}: must be from {least.sum()}, one of each class, to the "
            f"{counts.sum()} there are to train on"
        )
    part = (count - least.sum()) / max((counts - least).sum(), 1)
    shares = least + _apportioned(part * (counts - least), count - least.sum())
    order = np.random.default_rng(seed).permutation(len(images.labels))
    chosen = [order[images.labels[order] == k][:share] for k, share in enumerate(shares)]
    return images.select(np.sort(np.concatenate(chosen)))


def _apportioned(quotas: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers near the quotas that add up to `total`, by largest remainders."""
    shares = np.floor(quotas).astype(int)
    shares[np.argsort(shares - quotas, kind="stable")[: total - shares.sum()]] += 1
    return shares
