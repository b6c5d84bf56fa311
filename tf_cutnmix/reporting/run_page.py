"""The page of one run, from its folder alone."""

import io
import os
import pathlib
import shlex
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from tf_cutnmix import escaping, files
from tf_cutnmix.reporting import pages, plots
from tf_cutnmix.reporting.runs import Run, read
from tf_cutnmix.reporting.tables import NOTHING, Table
from tf_cutnmix.runs import card, outlook, predictions, scores
from tf_cutnmix.runs.config import Config

NAME = "run.html"
_NO_TERMS = ("images_per_second", "region_overlap")
_LONGEST = 60


def write(folder: pathlib.Path, config: Config) -> pathlib.Path:
    """Draw the page of a finished run into its folder; where it is.

    Raises:
      RunError: the run is unfinished or broken, or the page cannot be written.
    """
    run = read(folder, lambda _: config)
    files.write(folder / NAME, page(run, content(run)).encode())
    return folder / NAME


def page(run: Run, shown: dict[str, Any]) -> str:
    """The page of a run, of its `content`."""
    title = f"{run.config.method} + {run.config.mix} on {_short(run.config.dataset)}"
    return pages.render("run.html", title=title, run=run, shown=shown)


def content(run: Run) -> dict[str, Any]:
    """What the macro `run` of `templates/parts.html` shows.

    Raises:
      RunError: the run's predictions of its test images are damaged.
    """
    flags = run.config.flagfile().splitlines()
    flagfile = f"--flagfile={run.folder / 'flags.cfg'}"
    again = ["python", "-m", "tf_cutnmix.train", flagfile, "--workdir=runs/again"]
    counts = run.counts.get("test", ())
    return {
        "duration": outlook.duration(run.figures.get("wall_seconds", 0.0)),
        "curves": _curves(run),
        "balanced_over": "" if all(counts) else f" over {scores.represented(counts)} classes",
        "mixed_batch": _mixed_batch(run.folder),
        "flags": flags,
        "commands": (card.command(flags), shlex.join(again)),
        **_predictions(run),
    }


def _curves(run: Run) -> list[str]:
    """Accuracies of the networks on the validation split, then the loss and each of its terms."""
    best = int(run.figures["best_epoch"])
    lines = {n: run.curves[n].dropna() for n in run.curves.dropna(axis=1, how="all")}
    accuracies = {
        name.removeprefix("val_").removesuffix("_accuracy"): 100 * line
        for name, line in lines.items()
        if name.startswith("val_") and name.endswith("_accuracy") and "mean_peer" not in name
    }
    titles = {"loss": "Total training loss", "learning_rate": "Learning rate"}
    terms = [n for n in lines if not n.startswith("val_") and n not in _NO_TERMS]
    drawn = [plots.curve(titles.get(n, f"Term: {n}"), {n: lines[n]}, best) for n in terms]
    if accuracies:
        drawn.insert(0, plots.curve("Validation accuracy (%)", accuracies, best))
    return drawn


def _predictions(run: Run) -> dict[str, Any]:
    """What the teacher predicts for the test images; nothing of a run that did not keep that."""
    path = files.own(run.folder, "predictions.npz")
    if not path.exists():
        return {}
    found = predictions.read(path)
    teacher, labels = found.probabilities["teacher"], found.labels
    classes = teacher.shape[1]
    named = len(run.class_names) == classes
    names = [_short(n) for n in (run.class_names if named else map(str, range(classes)))]
    counts, trained = scores.confusion(teacher, labels), run.counts.get("train", ())
    others = counts * (1 - np.eye(classes, dtype=int))
    recall = {
        "Class": names,
        "Training images": trained if len(trained) == classes else NOTHING,
        "Test images": np.bincount(labels, minlength=classes),
        "Recall": [
            NOTHING if np.isnan(part) else f"{part:.1%}" for part in scores.recall(teacher, labels)
        ],
        "Mostly confused with": [
            f"{names[row.argmax()]} ({row.max()})" if row.any() else NOTHING for row in others
        ],
    }
    note = "Recall: part of the class's test images that the teacher predicts correctly."
    return {
        "mistakes": [
            {
                "position": position,
                **_named(str(found.names[position])),
                "picture": _png(pixels),
                "says": names[teacher[position].argmax()],
                "sure": teacher[position].max(),
                "is": names[labels[position]],
            }
            for position, pixels in zip(found.mistakes, found.pictures, strict=True)
        ],
        "small": max(found.pictures.shape[1:3]) < 64,
        "confusion": plots.confusion(counts, names),
        "wide": classes > plots.FEW_CLASSES,
        "recall": Table("Recall by class", pd.DataFrame(recall).astype(str), (note,)),
        "calibration": plots.calibration(teacher, labels),
    }


def _named(name: str) -> dict[str, str]:
    """What a user calls an image, and the link to its file, if it is there."""
    link = pathlib.Path(name).absolute().as_uri() if os.path.isfile(name) else ""
    return {"name": _short(name), "link": link}


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _mixed_batch(folder: pathlib.Path) -> bytes | None:
    """The picture of the first batch; None where there is none that can be shown."""
    try:
        content = files.own(folder, "mixed_batch.png").read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            picture.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    return content


def _short(name: str) -> str:
    return escaping.one_line(name, _LONGEST)
