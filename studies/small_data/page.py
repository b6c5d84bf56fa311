"""The tables of docs/when_it_pays.md, from results/: `python studies/small_data/page.py`."""

import argparse
import pathlib
import re
import statistics
from collections.abc import Sequence

from tf_cutnmix import command
from tf_cutnmix.reporting import comparison, groups, runs
from tf_cutnmix.reporting.groups import Group
from tf_cutnmix.reporting.runs import Run
from tf_cutnmix.runs.config import Config

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "when_it_pays.md"
BASELINE = "independent_cutmix"
FEW = 3
# What a marker on the page names: results, and whether rows of few seeds are those of the table.
TABLES = {
    "train1000_h100, many seeds": ("train1000_h100", False),
    "train1000_h100, few seeds": ("train1000_h100", True),
    "train2500_h100": ("train2500_h100", True),
}
_HEADER = (
    *("row", "seeds", "held out", "mean peer", "teacher", "NLL", "ECE"),
    *("mean peer, difference", "teacher, difference"),
)


def main() -> None:
    """Write the tables into the page and print them."""
    argparse.ArgumentParser(description=__doc__, allow_abbrev=False).parse_args()
    PAGE.write_text(filled(PAGE.read_text()))
    for name in TABLES:
        print(f"{name}\n\n{table(name)}")


def filled(text: str) -> str:
    """The text of the page with its tables made anew, each below its marker."""
    for name in TABLES:
        pattern = rf"(<!-- table: {re.escape(name)} -->\n\n)(\|.*\n)*"
        text, count = re.subn(pattern, lambda found, name=name: found[1] + table(name), text)
        if count != 1:
            raise ValueError(f"the page has {count} markers of the table {name!r} in place of 1")
    return text


def table(name: str) -> str:
    """One of `TABLES` in Markdown, rows ranked by the images held out."""
    regime, few = TABLES[name]
    found = {row_of(group): group for group in read(regime)}
    chosen = [row for row, group in found.items() if (len(group.runs) <= FEW) == few]
    chosen.sort(key=lambda row: held_out(found[row]), reverse=True)
    rows = [line(row, found[row], found[BASELINE]) for row in chosen]
    cells = [_HEADER, ("---",) * len(_HEADER), *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def read(regime: str) -> Sequence[Group]:
    """The rows of a regime, each with its seeds."""
    folders = runs.find([str(HERE / "results" / regime)])
    return groups.collect([runs.read(folder, flags) for folder in folders]).groups


def flags(path: pathlib.Path) -> Config:
    return command.parse(Config, [f"--flagfile={path}"])


def row_of(group: Group) -> str:
    """The name of its file in rows/."""
    return re.sub(r"_seed\d+$", "", next(iter(group.runs.values())).folder.name)


def line(row: str, group: Group, baseline: Group) -> tuple[str, ...]:
    """Percent, nats, parts of 1; differences with the half width of their interval."""
    about = (HERE / "rows" / f"{row}.cfg").read_text().splitlines()[0]
    return (
        f"`{row}`: {about.removeprefix('# ').removesuffix('.')}",
        str(len(group.runs)),
        f"{100 * held_out(group):.2f}",
        *(f"{100 * mean(group, f'{name}_accuracy'):.2f}" for name in ("mean_peer", "teacher")),
        f"{mean(group, 'negative_log_likelihood'):.3f}",
        f"{mean(group, 'teacher_calibration_error'):.3f}",
        *(
            difference(group, baseline, f"last_{name}_accuracy")
            for name in ("mean_peer", "teacher")
        ),
    )


def mean(group: Group, figure: str) -> float:
    """Over seeds, after the last epoch."""
    return statistics.fmean(comparison.recorded(group, f"last_{figure}"))


def held_out(group: Group) -> float:
    """Accuracy on the images held out, mean of the mean peer's and the teacher's, over seeds."""
    return statistics.fmean(map(_held_out, group.runs.values()))


def _held_out(run: Run) -> float:
    said = run.result["last"]["validation"]
    peers = [said[f"{peer}_accuracy"] for peer in run.result["parameters"]]
    return (statistics.fmean(peers) + said["teacher_accuracy"]) / 2


def difference(group: Group, baseline: Group, figure: str) -> str:
    """Points above the baseline, paired by seed, and the half width of the 95 % interval."""
    found = comparison.difference(group, baseline, figure)
    if group is baseline or found is None:
        return ""
    if found.interval is None:
        return f"{100 * found.mean:+.2f}"
    low, high = found.interval
    return f"{100 * found.mean:+.2f} ({50 * (high - low):.2f})"


if __name__ == "__main__":
    main()
