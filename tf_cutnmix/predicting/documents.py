"""Answers as a table, as CSV, as JSON and as a page."""

import csv
import io
import json
from collections.abc import Sequence

from tf_cutnmix import escaping
from tf_cutnmix.errors import RunError
from tf_cutnmix.predicting import pictures
from tf_cutnmix.predicting.answers import Answer
from tf_cutnmix.reporting import pages

_LONGEST = 44


def table(answers: Sequence[Answer]) -> str:
    """A line for each file that could be read: the file, the answer, and what else it may be."""
    rows = [("file", "class", "probability", "or else")]
    for answer in answers:
        if answer.classes:
            (first, probability), *others = answer.classes
            rest = ", ".join(f"{_short(name)} {part:.1%}" for name, part in others)
            path = escaping.one_line(str(answer.path), _LONGEST)
            rows.append((path, _short(first), f"{probability:.1%}", rest))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{path:<{widths[0]}}  {name:<{widths[1]}}  {probability:>{widths[2]}}  {rest}".rstrip()
        for path, name, probability, rest in rows
    )


def as_csv(answers: Sequence[Answer]) -> str:
    """A line for each file; of one that cannot be read it has the problem alone."""
    most = max((len(answer.classes) for answer in answers), default=0)
    header = ["file"]
    for place in range(1, most + 1):
        header += [f"class_{place}", f"probability_{place}"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*header, "problem"])
    for answer in answers:
        said = [value for pair in answer.classes for value in pair]
        said += [""] * (2 * most - len(said))
        writer.writerow(map(escaping.cell, (str(answer.path), *said, answer.problem)))
    return file.getvalue()


def as_json(answers: Sequence[Answer]) -> str:
    """A list with an object for each file: its classes with their probabilities, or the problem."""
    return json.dumps([_object(answer) for answer in answers], indent=2) + "\n"


def _object(answer: Answer) -> dict[str, object]:
    path = str(answer.path)
    if answer.problem:
        return {"file": path, "problem": answer.problem}
    said = [{"class": name, "probability": probability} for name, probability in answer.classes]
    return {"file": path, "classes": said}


def page(answers: Sequence[Answer], export: str) -> str:
    """Small pictures with what the export says of them, as one page that needs nothing else."""
    broken = [f"{answer.path}: {answer.problem}" for answer in answers if answer.problem]
    read = [_shown(answer) for answer in answers if not answer.problem]
    return pages.render(
        "predictions.html",
        title="Predictions",
        count=f"{len(read)} picture{'s' * (len(read) != 1)}",
        export=export,
        broken=broken,
        answers=read,
    )


def _shown(answer: Answer) -> dict[str, object]:
    try:
        picture = pictures.thumbnail(answer.path)
    except RunError:
        picture = b""
    path = str(answer.path)
    classes = [(_short(name), f"{part:.1%}") for name, part in answer.classes]
    return {"picture": picture, "path": path, "short": _short(path), "classes": classes}


def _short(name: str) -> str:
    return escaping.one_line(name, _LONGEST)
