"""The page of one run, from its folder alone."""

import io
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from tf_cutnmix import escaping, files
from tf_cutnmix.reporting import pages, plots
from tf_cutnmix.reporting.runs import Run, read
from tf_cutnmix.reporting.tables import NO_SUCH_THING, Table
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
    """What is made of a run to look at, for the macro `run` of `templates/parts.html`.

    Raises:
      RunError: what the run says of its test images is damaged.
    """
    flags = run.config.flagfile().splitlines()
    flagfile = f"--flagfile={run.folder / 'flags.cfg'}"
    again = ["python", "-m", "tf_cutnmix.train", flagfile, "--workdir=runs/again"]
    return {
        "duration": outlook.duration(run.figures["wall_seconds"] or 0.0),
        "curves": _curves(run),
        "balanced_over": _balanced_over(run.counts.get("test", ())),
        "mixed_batch": _mixed_batch(run.folder),
        "flags": flags,
        "commands": (card.command(flags), shlex.join(again)),
        **_answers(run),
    }


def _curves(run: Run) -> list[str]:
    """Accuracies of the networks on the validation split, then the loss and each of its terms."""
    best = int(run.figures["best_epoch"] or 0)
    lines = {name: run.curves[name].dropna() for name in run.curves}
    accuracies = {
        name.removeprefix("val_").removesuffix("_accuracy"): 100 * line
        for name, line in lines.items()
        if name.startswith("val_") and name.endswith("_accuracy") and not line.empty
    }
    accuracies.pop("mean_peer", None)
    titles = {"loss": "Total training loss", "learning_rate": "Learning rate"}
    drawn = [plots.curve("Validation accuracy (%)", accuracies, best)] if accuracies else []
    for name, line in lines.items():
        if not name.startswith("val_") and name not in _NO_TERMS:
            drawn.append(plots.curve(titles.get(name, f"Term: {name}"), {name: line}, best))
    return drawn


def _answers(run: Run) -> dict[str, Any]:
    """What the networks said of the test images; nothing of a run of before that was kept."""
    path = files.own(run.folder, "predictions.npz")
    if not path.exists():
        return {}
    said = predictions.read(path)
    teacher = said.probabilities["teacher"]
    classes = teacher.shape[1]
    named = len(run.class_names) == classes
    names = [_short(n) for n in (run.class_names if named else map(str, range(classes)))]
    counts, trained = scores.confusion(teacher, said.labels), run.counts.get("train", ())
    others = counts * (1 - np.eye(classes, dtype=int))
    recall = {
        "Class": names,
        "Training images": trained if len(trained) == classes else NO_SUCH_THING,
        "Test images": np.bincount(said.labels, minlength=classes),
        "Recall": [
            NO_SUCH_THING if np.isnan(part) else f"{part:.1%}"
            for part in scores.recall(teacher, said.labels)
        ],
        "Mostly taken for": [
            f"{names[row.argmax()]} ({row.max()})" if row.any() else NO_SUCH_THING for row in others
        ],
    }
    note = "Recall: part of the class's test images that the teacher recognises."
    return {
        "mistakes": [
            {
                "position": position,
                "picture": _png(pixels),
                "says": names[teacher[position].argmax()],
                "sure": teacher[position].max(),
                "is": names[said.labels[position]],
            }
            for position, pixels in zip(said.mistakes, said.pictures, strict=True)
        ],
        "small": max(said.pictures.shape[1:3]) < 64,
        "confusion": plots.confusion(counts, names),
        "wide": classes > plots.FEW_CLASSES,
        "recall": Table("Recall by class", pd.DataFrame(recall).astype(str), (note,)),
        "calibration": plots.calibration(teacher, said.labels),
    }


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _balanced_over(counts: Sequence[int]) -> str:
    return "" if all(counts) else f" over {scores.represented(counts)} classes"


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
