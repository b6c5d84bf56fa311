"""The page of one run, from its folder alone."""

import io
import pathlib
import shlex
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tf_cutnmix import escaping, files
from tf_cutnmix.reporting import diagrams, pages
from tf_cutnmix.reporting.runs import Curve, Run, read
from tf_cutnmix.reporting.tables import NO_SUCH_THING, Table
from tf_cutnmix.runs import card, outlook, predictions, scores
from tf_cutnmix.runs.config import Config
from tf_cutnmix.runs.predictions import Predictions

NAME = "run.html"
_NO_TERMS = ("loss", "images_per_second", "region_overlap")
_LONGEST = 60


def write(folder: pathlib.Path, config: Config) -> pathlib.Path:
    """Draw the page of a finished run into its folder; where it is.

    Raises:
      RunError: the run is unfinished or broken, or the page cannot be written.
    """
    run = read(folder, lambda _: config)
    path = folder / NAME
    files.write(path, page(run, sections(run)).encode())
    return path


def page(run: Run, contents: list[str]) -> str:
    """The page of a run, of its `sections`."""
    title = f"{run.config.method} + {run.config.mix} on {_short(run.config.dataset)}"
    where = f'<p class="summary">The run in {pages.name(str(run.folder))}</p>'
    return pages.page(title, [f"<h1>{pages.name(title)}</h1>", where, *contents])


def sections(run: Run) -> list[str]:
    """What there is to see of a run, as elements of a page.

    Raises:
      RunError: what the run says of its test images is damaged.
    """
    said = _predictions(run)
    names = _class_names(run, said)
    flags = run.config.flagfile().splitlines()
    return [
        _facts(run),
        pages.heading("Course of the training"),
        _curves(run),
        *(_of_predictions(run, said, names) if said else [_without_predictions()]),
        *_mixed_batch(run),
        *_section(_cost(run)),
        pages.heading("The command"),
        f"<pre>{escaping.html(card.command(flags))}</pre>",
        '<p class="note">It makes the run again, as its flagfile does:</p>',
        f"<pre>{escaping.html(_with_flagfile(run))}</pre>",
        f"<details><summary>All settings</summary>\n{pages.code(flags)}</details>",
    ]


def _predictions(run: Run) -> Predictions | None:
    """What the run said of its test images; None if it is of before they were kept."""
    path = files.own(run.folder, "predictions.npz")
    return predictions.read(path) if path.exists() else None


def _class_names(run: Run, said: Predictions | None) -> tuple[str, ...]:
    """The names of the classes, or their numbers where the run has not named as many."""
    classes = said.probabilities["teacher"].shape[1] if said else len(run.class_names)
    return run.class_names if len(run.class_names) == classes else tuple(map(str, range(classes)))


def _facts(run: Run) -> str:
    figures = run.figures
    facts = [
        ("Teacher, test accuracy", _percent(figures.get("best_teacher_accuracy"))),
        (_balanced(run), _percent(figures.get("best_teacher_balanced_accuracy"))),
        ("Best peer, test accuracy", _percent(figures.get("best_best_peer_accuracy"))),
        ("Teacher, calibration error", _percent(figures.get("best_teacher_calibration_error"))),
        ("Best epoch", f"{figures['best_epoch']:.0f} of {figures['last_epoch']:.0f}"),
        ("Whole run", outlook.duration(figures["wall_seconds"] or 0.0)),
    ]
    if (soup := figures.get("best_soup_accuracy")) is not None:
        facts.insert(3, ("Soup, test accuracy", _percent(soup)))
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>\n" for name, value in facts)
    return f'<dl class="facts">\n{items}</dl>'


def _balanced(run: Run) -> str:
    counts = run.counts.get("test", ())
    over = "" if all(counts) else f" over {scores.represented(counts)} classes"
    return f"Teacher, balanced{over}"


def _curves(run: Run) -> str:
    """Accuracies of the networks on the validation split, then the loss and each of its terms."""
    best = int(run.figures["best_epoch"] or 0)
    accuracies: dict[str, Curve] = {}
    drawn = [diagrams.curve("Total training loss", {"loss": run.curves["loss"]}, best)]
    for name, points in run.curves.items():
        if name.startswith("val_"):
            if points and name.endswith("_accuracy") and name != "val_mean_peer_accuracy":
                network = name.removeprefix("val_").removesuffix("_accuracy")
                accuracies[network] = {epoch: 100 * part for epoch, part in points.items()}
        elif name not in _NO_TERMS:
            title = "Learning rate" if name == "learning_rate" else f"Term: {name}"
            drawn.append(diagrams.curve(title, {name: points}, best))
    if accuracies:
        ordered = dict(sorted(accuracies.items(), key=lambda line: line[0] != "teacher"))
        drawn.insert(0, diagrams.curve("Validation accuracy (%)", ordered, best))
    note = '<p class="note">The dashed line is the best epoch.</p>'
    return f"{pages.gallery(drawn, 'curves')}\n{note}"


def _of_predictions(run: Run, said: Predictions, names: tuple[str, ...]) -> Iterator[str]:
    teacher = said.probabilities["teacher"]
    counts = scores.confusion(teacher, said.labels)
    yield pages.heading("The teacher's surest mistakes on the test images")
    yield _mistakes(said, names)
    yield pages.heading("What the teacher takes for what")
    matrix = diagrams.confusion(counts, names)
    yield pages.scrolled(matrix, wide=len(names) > diagrams.FEW_CLASSES)
    yield from _section(_recall(run, said, counts, names))
    yield pages.heading("How sure it is, and how often right")
    yield pages.scrolled(diagrams.calibration(teacher, said.labels))


def _without_predictions() -> str:
    return (
        '<p class="note">This run has left no predictions.npz: what its networks take for what, '
        "their mistakes and their calibration cannot be shown.</p>"
    )


def _mistakes(said: Predictions, names: tuple[str, ...]) -> str:
    if not len(said.mistakes):
        return "<p>None.</p>"
    figures = []
    for position, pixels in zip(said.mistakes, said.pictures, strict=True):
        row = said.probabilities["teacher"][position]
        answer, true = (_short(names[k]) for k in (int(row.argmax()), said.labels[position]))
        words = f"says {pages.name(answer)}, {row.max():.1%}<br>is {pages.name(true)}"
        picture = pages.picture(_png(pixels), "png", f"test image {position}")
        figures.append(pages.captioned(picture, words))
    small = "pixels" if max(said.pictures.shape[1:3]) < 64 else ""
    return pages.gallery(figures, small)


def _recall(run: Run, said: Predictions, counts: np.ndarray, names: tuple[str, ...]) -> Table:
    recall = scores.recall(said.probabilities["teacher"], said.labels)
    counted = run.counts.get("train", ())
    trained = counted if len(counted) == len(names) else [NO_SUCH_THING] * len(names)
    tested = np.bincount(said.labels, minlength=len(names))
    rows: list[tuple[str, ...]] = []
    for k, name in enumerate(names):
        others = np.where(np.arange(len(names)) == k, 0, counts[k])
        worst = int(others.argmax())
        confused = f"{_short(names[worst])} ({others[worst]})" if others[worst] else NO_SUCH_THING
        part = NO_SUCH_THING if np.isnan(recall[k]) else f"{recall[k]:.1%}"
        rows.append((_short(name), str(trained[k]), str(tested[k]), part, confused))
    header = ("Class", "Training images", "Test images", "Recall", "Mostly taken for")
    note = "Recall: part of the class's test images that the teacher recognises."
    return Table("Recall by class", header, rows, (note,))


def _mixed_batch(run: Run) -> list[str]:
    try:
        content = files.own(run.folder, "mixed_batch.png").read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            picture.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return []
    caption = "Rows: images, their partners where samples are mixed, then what each peer sees."
    return [
        pages.heading("The first batch"),
        pages.scrolled(pages.picture(content, "png", caption)),
        f'<p class="note">{caption}</p>',
    ]


def _cost(run: Run) -> Table:
    figures = run.figures
    rows: list[tuple[str, ...]] = [("Whole run", outlook.duration(figures["wall_seconds"] or 0.0))]
    for name, title, form, unit in (
        ("images_per_second", "Training images per second", "{:,.0f}", 1.0),
        ("trained_parameters", "Trained parameters", "{:,.0f}", 1.0),
        ("flops_per_image", "Training, per image", "{:,.1f} MFLOPs", 1e6),
        ("peak_memory_bytes", "Peak memory", "{:,.0f} MiB", 2.0**20),
    ):
        value = figures.get(name)
        if value is not None:
            rows.append((title, form.format(value / unit)))
    rows += [(name, version) for name, version in run.versions.items()]
    return Table("Cost", ("Of", "Is"), rows)


def _with_flagfile(run: Run) -> str:
    flagfile = f"--flagfile={run.folder / 'flags.cfg'}"
    words = ["python", "-m", "tf_cutnmix.train", flagfile, "--workdir=runs/again"]
    return escaping.one_line(shlex.join(words))


def _section(table: Table) -> list[str]:
    return [pages.heading(table.title), pages.scrolled(table.to_html())]


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _short(name: str) -> str:
    return escaping.one_line(name, _LONGEST)


def _percent(value: float | None) -> str:
    return NO_SUCH_THING if value is None else f"{value:.2%}"
