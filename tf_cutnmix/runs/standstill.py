"""Whether a run learns nothing, while it can still be stopped."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

# After so many steps, and by so many lines of metrics.jsonl in a row.
STEPS = 100
_LINES = 3
_LOOKS = 5
# A cross-entropy is that of one answer for all images down to this part of it, and stands still
# while it does not fall by more than this part.
_AS_HIGH = 0.995
_FALLING = 0.002
# Standard deviations of a guess's accuracy that are no sign of learning.
_LUCK = 3.0


def standstill(
    rows: Sequence[Mapping[str, float]],
    *,
    steps_per_epoch: int,
    peers: int,
    shares: Sequence[float],
    held_out: Sequence[int] = (),
    from_step: int = STEPS,
) -> str:
    """What a run that learns nothing shows, in words; "" for one that learns, or may yet.

    Who knows nothing but the classes' shares has, with one answer for all images, their entropy as
    its cross-entropy at best, the logarithm of their number where they are alike. It is linear in
    the label, so that mixed labels, which lift the cross-entropy of those who know more, change
    nothing about it. A network that learns, however little, is below it, or above by what it is
    too sure of and still falling, or right more often than a guess.

    Args:
      rows: the lines of `metrics.jsonl`, a whole epoch each.
      steps_per_epoch: of the run.
      peers: how many networks the cross-entropy is the sum of.
      shares: of the training images, by class, as the cross-entropy counts them; their sum is 1.
      held_out: the number of held-out images by class; empty where it is not known.
      from_step: what ends before this step tells nothing.
    """
    late = [row for row in rows if row["epoch"] * steps_per_epoch >= from_step]
    entropy = -sum(share * math.log(share) for share in shares if share)
    last = [row["cross_entropy"] / peers for row in late[-_LINES:]]
    stands = (
        len(last) == _LINES
        and min(last) >= _AS_HIGH * entropy
        and last[-1] >= (1 - _FALLING) * last[0]
    )
    images = sum(held_out)
    guess = max(held_out) / images if images else max(shares)
    if stands and not _better_than_a_guess(late[-_LINES:], guess, images):
        return (
            f"the peers' cross-entropy, {last[-1]:.2f} each, is no lower than that of one answer "
            f"for all images, {entropy:.2f}"
        )
    looks = [row for row in late if "val_loss" in row][-_LOOKS:]
    alike = np.asarray(held_out) / max(images, 1)
    for peer in [f"peer{number}" for number in range(1, peers + 1)] if images else []:
        said = [row[f"val_{peer}_accuracy"] for row in looks]
        if len(said) == _LOOKS and all(np.isclose(alike, part, atol=1e-6).any() for part in said):
            return f"{peer} gives one answer for all held-out images, right for {said[-1]:.1%}"
    return ""


def _better_than_a_guess(rows: Sequence[Mapping[str, float]], guess: float, images: int) -> bool:
    """Whether a network was right about held-out images more often than the best single answer."""
    luck = _LUCK * math.sqrt(guess * (1 - guess) / images) if images else 0.0
    accuracies = [
        value
        for row in rows
        for name, value in row.items()
        if name.startswith(("val_peer", "val_average")) and name.endswith("_accuracy")
    ]
    return any(accuracy > guess + luck for accuracy in accuracies)
