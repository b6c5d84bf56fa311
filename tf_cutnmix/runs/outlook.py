"""What is known of a run before it begins, and how long it takes, in words."""

import time
from collections.abc import Mapping, Sequence

from tf_cutnmix.errors import listed
from tf_cutnmix.escaping import one_line

_LONG = 3600
_FEW = 20
_LONGEST = 24
_NAMED = 10


def block(facts: Mapping[str, str]) -> str:
    """A line for each fact, the facts under each other."""
    width = max(map(len, facts))
    return "\n".join(f"{name:<{width}}  {fact}" for name, fact in facts.items())


def data(
    dataset: str,
    size: tuple[int, int],
    class_names: Sequence[str],
    counts: Mapping[str, Sequence[int]],
) -> dict[str, str]:
    """The data of a run.

    Args:
      dataset: its name.
      size: height and width of the images.
      class_names: in their order.
      counts: for each split the number of images of each class.
    """
    images = ", ".join(f"{sum(split)} {name}" for name, split in counts.items())
    told = [
        f"{one_line(name, _LONGEST)}: {count}"
        for name, count in zip(class_names, counts["train"], strict=True)
    ]
    if len(told) > _FEW:
        order = sorted(range(len(told)), key=lambda k: counts["train"][k])
        shown = f"from {told[order[0]]} to {told[order[-1]]}"
    else:
        shown = ", ".join(told)
    return {
        "data": f"{one_line(dataset)}, {size[1]} x {size[0]} pixels, {images} images",
        "classes": f"{len(told)}, training images {shown}",
    }


def lacking(class_names: Sequence[str], counts: Mapping[str, Sequence[int]]) -> list[str]:
    """A line for each split that has images, but none of some classes; arguments as of `data`."""
    lines = []
    for split, own in counts.items():
        pairs = zip(class_names, own, strict=True)
        names = [one_line(name, _LONGEST) for name, count in pairs if not count]
        if names and any(own):
            lines.append(
                f"{one_line(split)} has no images of {len(names)} of the {len(own)} classes: "
                + listed(names, _NAMED)
            )
    return lines


def duration(seconds: float) -> str:
    """In the units that say enough: 41 s, 12 min, 3 h 25 min, 2 d 4 h."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours = round(seconds / 3600)
    return (
        f"{minutes // 60} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
    )


def end(seconds: float, now: float | None = None) -> str:
    """When so many seconds from now, or from `now` in seconds since 1970, are over."""
    then = time.localtime((time.time() if now is None else now) + seconds)
    today = time.localtime(now)[:3] == then[:3]
    return time.strftime("%H:%M" if today else "%a %d %b %H:%M", then)


def advice(seconds: float, gpus: int) -> str | None:
    """What makes a long run on a machine without a GPU shorter; None for any other."""
    if seconds <= _LONG or gpus:
        return None
    return (
        "this machine has no GPU: fewer --epochs, a smaller --image_size or a smaller --arch take "
        "less time"
    )
