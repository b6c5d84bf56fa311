"""Run a benchmark: print its table, write its figures."""

import argparse
import importlib
import pathlib

from benchmarks import tables

BENCHMARKS = (
    *("mixing", "pipeline", "step", "start", "export", "formats", "serving"),
    *("saving", "memory", "faults", "scale", "cache"),
)
RESULTS = pathlib.Path(__file__).with_name("results")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="+", choices=BENCHMARKS, metavar="NAME", help="%(choices)s")
    parser.add_argument(
        "--out", type=pathlib.Path, default=RESULTS, help="folder of the JSON files"
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="that faults takes (60)")
    parser.add_argument("--quick", action="store_true", help="a row or two, to see that it runs")
    chosen = parser.parse_args(arguments)
    for name in chosen.names:
        # Imported here: one benchmark's frameworks are not to slow another one down.
        module = importlib.import_module(f"benchmarks.{name}")
        facts = tables.head(name, module.TITLE)
        limits = {"minutes": chosen.minutes} if name == "faults" else {}
        measured = module.rows(quick=chosen.quick, **limits)
        rows = []
        for row in tables.record(facts, measured, chosen.out / f"{name}.json"):
            rows.append(row)
            print(tables.markdown({"rows": [row]}).splitlines()[-1], flush=True)
        print(f"\n{facts['title']}\n{tables.caption(facts)}\n")
        print(tables.markdown({"rows": rows}), flush=True)


if __name__ == "__main__":
    main()
