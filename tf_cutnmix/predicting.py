"""From what a user names to pictures, to an export's answers, to a table, CSV, JSON and a page."""

import io
import json
import pathlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf
from PIL import Image

from tf_cutnmix import escaping, places
from tf_cutnmix.data import folder, pictures
from tf_cutnmix.errors import InputError, RunError
from tf_cutnmix.networks.served import Served
from tf_cutnmix.reporting import pages

_TOP = 3
_THUMBNAIL = 160
_LONGEST = 44


class Answer(NamedTuple):
    """The answer to a file.

    Attributes:
      path: of the file.
      classes: the most probable ones with their probabilities, the surest first; none where the
        file cannot be read.
      problem: why it cannot be read, or "".
      unsure: whether the most probable class is not to be relied on.
    """

    path: pathlib.Path
    classes: tuple[tuple[str, float], ...] = ()
    problem: str = ""
    unsure: bool = False


def find(named: Iterable[str]) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """The files in what is named, and those of its folders that are no pictures, each once.

    Args:
      named: files; folders, of which all pictures at any depth are taken that are not hidden;
        patterns such as "photos/**/*.jpg".

    Raises:
      InputError: a place is not there or holds no picture.
    """
    files: dict[pathlib.Path, None] = {}
    left_out: dict[pathlib.Path, None] = {}
    for place in named:
        found = places.matching(place)
        if found[0].is_dir():
            found, others = folder.pictures_below(found[0])
            left_out |= dict.fromkeys(others)
            if not found:
                raise InputError(f"{place!r} holds no pictures: name another folder, or files")
        files |= dict.fromkeys(found)
    return list(files), [file for file in left_out if file not in files]


def ask(
    export: Served,
    paths: Sequence[pathlib.Path],
    *,
    batch_size: int,
    unsure_below: float | None = None,
) -> Iterator[Answer]:
    """An answer to each file, with its three most probable classes, in their order.

    Args:
      export: what to ask; one of before, which does not say what it is confident of, is of all.
      paths: of the files.
      batch_size: files at a time.
      unsure_below: the probability below which an answer is unsure; None where the export is not
        confident.

    Raises:
      InputError: the export does not take files, or has not a name for each of its classes.
    """
    serve_bytes = export.model.signatures.get("serve_bytes")
    if serve_bytes is None or "valid" not in serve_bytes.structured_outputs:
        raise InputError("--savedmodel has no signature serve_bytes: it is no export of tf_cutnmix")
    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        found = _ask_batch(export, serve_bytes, batch)
        for path in batch:
            answer = found[path]
            if isinstance(answer, str):
                yield Answer(path, problem=answer)
                continue
            probabilities, confident = answer
            order = np.argsort(-probabilities, kind="stable")[:_TOP]
            classes = tuple((export.class_names[k], float(probabilities[k])) for k in order)
            unsure = not confident if unsure_below is None else classes[0][1] < unsure_below
            yield Answer(path, classes, unsure=unsure)


def _ask_batch(
    export: Served, serve_bytes: Callable, paths: Sequence[pathlib.Path]
) -> dict[pathlib.Path, tuple[np.ndarray, bool] | str]:
    """Of each file its probabilities `[K]` and whether they are confident, or why it has none."""
    contents: dict[pathlib.Path, bytes] = {}
    found: dict[pathlib.Path, tuple[np.ndarray, bool] | str] = {}
    for path in paths:
        try:
            contents[path] = path.read_bytes()
        except OSError as error:
            found[path] = str(error.strerror)
    answer = serve_bytes(bytes=tf.constant(list(contents.values()), tf.string, [len(contents)]))
    for path, row, valid in zip(contents, _rows(answer), answer["valid"].numpy(), strict=True):
        found[path] = row
        if not valid:
            try:
                images = np.asarray(_by_pillow(contents[path]))[np.newaxis]
                (found[path],) = _rows(export.predict(images=images))
            except RunError as error:
                found[path] = str(error)
    return found


def _rows(answer: Mapping[str, tf.Tensor]) -> list[tuple[np.ndarray, bool]]:
    probabilities = answer["probabilities"].numpy()
    confident = answer.get("confident", np.ones(len(probabilities), bool))
    return list(zip(probabilities, map(bool, confident), strict=True))


def _by_pillow(content: bytes) -> Image.Image:
    with warnings.catch_warnings():
        # Pillow only warns of pictures that are up to twice as large as it allows.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return pictures.by_pillow(content)


def table(answers: Sequence[Answer]) -> str:
    """A line for each file that could be read: the file, the answer, and what else it may be."""
    rows = []
    for answer in answers:
        if answer.classes:
            (name, probability), *others = answer.classes
            rest = ", ".join(f"{_short(other)} {part:.1%}" for other, part in others)
            told = f"unsure: {_short(name)}" if answer.unsure else _short(name)
            rows.append((_short(str(answer.path)), told, f"{probability:.1%}", rest))
    frame = pd.DataFrame(rows, columns=["file", "class", "probability", "or else"])
    return frame.to_markdown(
        index=False,
        tablefmt="plain",
        disable_numparse=True,
        colalign=("left", "left", "right", "left"),
    )


def as_csv(answers: Sequence[Answer]) -> str:
    """A line for each file; of one that cannot be read it has the problem alone."""
    rows: list[dict[str, object]] = []
    for answer in answers:
        row: dict[str, object] = {"file": str(answer.path)}
        for place, (name, probability) in enumerate(answer.classes, 1):
            row |= {f"class_{place}": name, f"probability_{place}": probability}
        rows.append(row)
    frame = pd.DataFrame(rows)
    frame["unsure"] = ["" if answer.problem else answer.unsure for answer in answers]
    frame["problem"] = [answer.problem for answer in answers]
    return escaping.csv(frame)


def as_json(answers: Sequence[Answer]) -> str:
    """A list with an object for each file: its classes with their probabilities, or the problem."""
    objects = [
        {"file": str(path), "problem": problem}
        if problem
        else {
            "file": str(path),
            "classes": [{"class": n, "probability": p} for n, p in classes],
            "unsure": unsure,
        }
        for path, classes, problem, unsure in answers
    ]
    return json.dumps(objects, indent=2) + "\n"


def looked_at(heatmap: Callable, picture: Image.Image, size: tuple[int, int]) -> bytes:
    """What speaks for the answer, as a PNG file of a size, to lay over the picture.

    Args:
      heatmap: an export's signature of that name.
      picture: RGB, of any size, resized to the networks' as the export does it.
      size: width and height.
    """
    levels = heatmap(images=tf.constant(np.asarray(picture)[np.newaxis]))["heatmap"][0].numpy()
    return pages.heat(np.asarray(Image.fromarray(np.uint8(255 * levels)).resize(size)))


def page(answers: Sequence[Answer], export: str, heatmap: Callable | None = None) -> str:
    """Small pictures with an export's answers, as one page that needs nothing else.

    With the export's signature `heatmap`, what speaks for an answer is laid over its picture.
    """
    read = [answer for answer in answers if not answer.problem]
    return pages.render(
        "predictions.html",
        title="Predictions",
        count=f"{len(read)} picture{'s' * (len(read) != 1)}",
        export=export,
        heatmap=heatmap is not None,
        broken=[f"{answer.path}: {answer.problem}" for answer in answers if answer.problem],
        answers=[
            {
                **_thumbnail(answer.path, heatmap),
                "what": str(answer.path),
                "short": _short(str(answer.path)),
                "classes": [(_short(name), f"{part:.1%}") for name, part in answer.classes],
                "unsure": answer.unsure,
            }
            for answer in read
        ],
    )


def _thumbnail(path: pathlib.Path, heatmap: Callable | None) -> dict[str, bytes]:
    """A picture of at most 160 pixels a side, as a JPEG file, and what is to lie over it.

    Empty where it cannot be shown.
    """
    try:
        picture = _by_pillow(path.read_bytes())
    except (OSError, RunError):
        return {"picture": b"", "heat": b""}
    small, file = picture.copy(), io.BytesIO()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    small.save(file, "JPEG", quality=85)
    heat = looked_at(heatmap, picture, small.size) if heatmap else b""
    return {"picture": file.getvalue(), "heat": heat}


def _short(name: str) -> str:
    return escaping.one_line(name, _LONGEST)
