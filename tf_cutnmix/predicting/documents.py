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
    read = [answer for answer in answers if not answer.problem]
    count = f"{len(read)} picture{'s' * (len(read) != 1)}"
    return pages.page(
        "Predictions",
        [
            "<h1>Predictions</h1>",
            f'<p class="summary">{count}, answered by {pages.name(export)}.</p>',
            *([pages.warnings(broken)] if broken else []),
            pages.gallery(map(_figure, read)),
        ],
    )


def _figure(answer: Answer) -> str:
    try:
        shown = pages.picture(pictures.thumbnail(answer.path), "jpeg", str(answer.path))
    except RunError:
        shown = "<p>Its picture cannot be shown.</p>"
    (first, probability), *others = answer.classes
    lines = [f"<b>{pages.name(_short(first))} {probability:.1%}</b>"]
    lines += [f"{pages.name(_short(name))} {part:.1%}" for name, part in others]
    lines.append(f'<span class="note">{pages.name(_short(str(answer.path)))}</span>')
    return pages.captioned(shown, "<br>".join(lines))


def _short(name: str) -> str:
    return escaping.one_line(name, _LONGEST)
