"""The selection's table, from results/: `python studies/few_pictures/page.py`."""

import argparse
import functools
import pathlib
import statistics

import pandas as pd

from tf_cutnmix import command
from tf_cutnmix.reporting import runs
from tf_cutnmix.runs.config import Config

HERE = pathlib.Path(__file__).resolve().parent
REGIMES = ("select1000", "select5000", "select_letters")


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__, allow_abbrev=False).parse_args()
    print(selection(HERE / "results").to_markdown(floatfmt=".2f"))


def selection(results: pathlib.Path) -> pd.DataFrame:
    """Of each candidate its score in each regime, in percent, and over all once it has them all.

    A run's score is the mean of its mean peer's and its teacher's accuracy on the held-out images,
    which are the test split of these regimes, after the last epoch.
    """
    read = functools.partial(runs.read, read_flags=functools.partial(command.read, Config))
    rows = []
    for regime in REGIMES:
        for folder in sorted((results / regime).glob("*/")):
            figures = read(folder).figures
            names = ("last_mean_peer_accuracy", "last_teacher_accuracy")
            score = 100 * statistics.fmean(figures[name] or 0.0 for name in names)
            rows.append((regime, folder.name.partition("flagfile=")[2], score))
    scores = pd.DataFrame(rows, columns=["regime", "row", "score"]).groupby(["row", "regime"])
    table = scores["score"].mean().unstack().reindex(columns=REGIMES)
    table["score"] = table.mean(axis=1, skipna=False)
    seeds = scores["score"].count().unstack(fill_value=0).reindex(columns=REGIMES, fill_value=0)
    table["seeds"] = ["/".join(map(str, counts)) for counts in seeds.to_numpy()]
    return table.sort_values("score", ascending=False)


if __name__ == "__main__":
    main()
