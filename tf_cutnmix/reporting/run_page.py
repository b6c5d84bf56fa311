"""The page of one run, from its folder alone: how good it is, its mistakes, then how it learnt."""

import io
import os
import pathlib
import shlex
from collections.abc import Iterable
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
# Classes of which the matrix can be read there at its width.
_ON_A_PHONE = 5
# Of training images, below which a network has not learnt them.
_LEARNT = 0.9


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
    title = f"{' + '.join(run.config.recipe)} on {_short(run.config.dataset)}"
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
    best = int(run.figures["best_epoch"])
    lines = {n: run.curves[n].dropna() for n in run.curves.dropna(axis=1, how="all")}
    titles = {"loss": "Total training loss", "learning_rate": "Learning rate"}
    terms = [n for n in lines if not n.startswith("val_") and n not in _NO_TERMS]
    return {
        "duration": outlook.duration(run.figures.get("wall_seconds", 0.0)),
        "accuracy_ends": _ends(run.figures["best_teacher_accuracy"], sum(counts)),
        "unbalanced": bool(counts) and scores.unbalanced(counts),
        "balanced_over": "" if all(counts) else f" over {scores.represented(counts)} classes",
        "accuracies": _accuracies(run, lines, best),
        "terms": [plots.curve(titles.get(n, f"Term: {n}"), {n: lines[n]}, best) for n in terms],
        "how_learnt": [*_how_learnt(run), *_few_to_choose_by(run)],
        "mixed_batch": _mixed_batch(run.folder),
        "flags": flags,
        "commands": (card.command(flags), shlex.join(again)),
        **_predictions(run),
    }


def _ends(part: float, count: int) -> str:
    """The 95 % interval of a part of some images in words; "" where their number is unknown."""
    if not count:
        return ""
    low, high = scores.interval(part, count)
    return f"{low:.1%} to {high:.1%} (95 % interval, {count:,} images)"


def _accuracies(run: Run, lines: dict[str, pd.Series], best: int) -> str | None:
    """The networks' accuracies on the validation split, and the teacher's on training images."""
    shown = {
        name.removeprefix("val_").removesuffix("_accuracy"): 100 * line
        for name, line in lines.items()
        if name.startswith("val_") and name.endswith("_accuracy") and "mean_peer" not in name
    }
    if not shown:
        return None
    if (trained := run.figures.get("best_teacher_training_accuracy")) is not None:
        shown["teacher, training images"] = pd.Series({best: 100 * trained})
    return plots.curve("Validation accuracy (%)", shown, best, True)


def _how_learnt(run: Run) -> list[str]:
    """What the teacher's accuracies on training and on test images say, and what to do then."""
    training = run.figures.get("best_teacher_training_accuracy")
    images = sum(run.counts.get("test", ()))
    if training is None or not images:
        return []
    test = run.figures["best_teacher_accuracy"]
    if training < _LEARNT:
        then = "it has not learnt them yet, try more --epochs or a larger --arch"
    elif training > scores.interval(test, images)[1]:
        then = "more pictures bring the two together, or --augment"
    else:
        then = f"as far as {images:,} images tell, it generalises"
    return [
        f"The teacher predicts {training:.1%} of the training images, unmixed, and {test:.1%} of "
        f"the test images correctly: {then}."
    ]


def _few_to_choose_by(run: Run) -> list[str]:
    """A line if the best epoch was chosen by chance: its interval is wider than the differences."""
    accuracies = run.curves["val_teacher_accuracy"].dropna()
    later = accuracies[len(accuracies) // 2 :]
    images = sum(run.counts.get("validation", ()))
    if len(later) < 2 or not images:
        return []
    low, high = scores.interval(accuracies.max(), images)
    differ = later.max() - later.min()
    if differ >= high - low:
        return []
    return [
        f"{images:,} validation images cannot tell the later epochs apart, which differ by "
        f"{100 * differ:.1f} points where the interval of the best is {100 * (high - low):.1f} "
        "points wide: the choice among them is chance, and a larger --validation_fraction tells "
        "more."
    ]


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
    counts = scores.confusion(teacher, labels)
    mistakes = len(found.mistakes)
    return {
        "mistakes": _cards(found, names, range(mistakes)),
        "examples": _cards(found, names, range(mistakes, mistakes + len(found.examples))),
        "small": max(found.pictures.shape[1:3]) < 64,
        "confusion": plots.confusion(counts, names),
        "wide": classes > _ON_A_PHONE,
        "classes": _classes(run, teacher, labels, counts, names),
        "calibration": plots.calibration(teacher, labels),
        "how_sure": _how_sure(teacher, labels),
    }


def _cards(
    found: predictions.Predictions, names: list[str], places: Iterable[int]
) -> list[dict[str, Any]]:
    """A picture each with what the teacher says of it; `places` are those among the pictures."""
    teacher, shown = found.probabilities["teacher"], [*found.mistakes, *found.examples]
    return [
        {
            "what": f"test image {shown[place]}",
            **_named(str(found.names[shown[place]])),
            "picture": pages.png(found.pictures[place]),
            "heat": pages.heat(found.heat[place]) if len(found.heat) else None,
            "says": names[teacher[shown[place]].argmax()],
            "sure": teacher[shown[place]].max(),
            "is": names[found.labels[shown[place]]],
        }
        for place in places
    ]


def _named(name: str) -> dict[str, str]:
    """What a user calls an image, and the link to its file, if it is there."""
    link = pathlib.Path(name).absolute().as_uri() if os.path.isfile(name) else ""
    return {"name": _short(name), "link": link}


def _classes(
    run: Run, teacher: np.ndarray, labels: np.ndarray, counts: np.ndarray, names: list[str]
) -> Table:
    """Precision, recall and F1 of each class, and which other it is taken for."""
    classes, trained = len(names), run.counts.get("train", ())
    recall = scores.recall(teacher, labels)
    precision, f1 = scores.precision_and_f1(teacher, labels)
    others = counts * (1 - np.eye(classes, dtype=int))
    columns = {
        "Class": names,
        "Training images": trained if len(trained) == classes else NOTHING,
        "Test images": np.bincount(labels, minlength=classes),
    }
    for name, parts in (("Precision", precision), ("Recall", recall), ("F1", f1)):
        columns[name] = [NOTHING if np.isnan(part) else f"{part:.1%}" for part in parts]
    columns["Mostly taken for"] = [
        f"{names[row.argmax()]} ({row.max()})" if row.any() else NOTHING for row in others
    ]
    notes = [
        "Precision: share of the images predicted as the class that are of it. Recall: share of "
        "the class's images that are predicted as it. F1: the harmonic mean of both."
    ]
    worst = int(np.nanargmin(recall))
    if others[worst].any():
        other = names[others[worst].argmax()]
        notes.append(
            f"The weakest class is {names[worst]}: add pictures of it that look like {other}."
        )
    return Table("Classes", pd.DataFrame(columns).astype(str), tuple(notes))


def _how_sure(teacher: np.ndarray, labels: np.ndarray) -> str:
    """What the confidence is worth, in a sentence."""
    counts, confident, right = map(np.sum, scores.calibration(teacher, labels))
    sure, true = confident / counts, right / counts
    low, high = scores.interval(true, int(counts))
    told = f"It is {sure:.1%} sure on average, and {true:.1%} of its predictions are right: "
    if sure > high:
        return f"{told}ask for more confidence than you need."
    if sure < low:
        return f"{told}it may be trusted more than it says, as is usual after training on mixtures."
    return f"{told}as far as {counts:,} images tell, it may be taken at its word."


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
