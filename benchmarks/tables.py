"""The results of a benchmark: JSON that is written row by row, and a table of it in Markdown."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

# A row by the names of its columns: a text, a number, a `turns.summary`, or None where a program
# cannot do it.
Row = Mapping[str, Any]

_PACKAGES = (
    *("tf_cutnmix", "tensorflow", "keras", "keras-cv", "torch", "jax", "numpy"),
    *("ai-edge-litert", "onnxruntime", "openvino"),
)


def head(name: str, title: str) -> dict[str, Any]:
    """What a reader needs to know about a measurement: what, where, when and of what versions."""
    return {
        "benchmark": name,
        "title": title,
        "command": f"python -m benchmarks {name}",
        "date": datetime.date.today().isoformat(),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {"python": platform.python_version(), **_versions()},
    }


def record(facts: Mapping[str, Any], rows: Iterable[Row], file: pathlib.Path) -> Iterator[Row]:
    """The rows as they come, each written into the JSON file before it is handed on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    done: list[Row] = []
    for row in rows:
        done.append(row)
        file.write_text(json.dumps({**facts, "rows": done}, indent=1) + "\n")
        yield row


def markdown(results: Mapping[str, Any]) -> str:
    """The table of a results file; where a figure has a median, that."""
    rows = results["rows"]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    numbers = [all(not isinstance(row.get(c), str) for row in rows) for c in columns]
    lines = [columns, ["---:" if number else "---" for number in numbers]]
    lines += [[_text(row.get(column)) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def caption(results: Mapping[str, Any]) -> str:
    """Machine, versions and date of a results file, in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return f"{results['machine']}; {versions}; {results['date']}"


def read(folder: pathlib.Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The results of some benchmarks by name, of those that a folder has."""
    files = {name: folder / f"{name}.json" for name in names}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.is_file()}


def _text(value: Any) -> str:
    if value is None:
        return "—"
    if isinstance(value, str):
        return value
    number = value["median"] if isinstance(value, Mapping) else value
    if isinstance(number, int) or number >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}"


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({platform.machine()})" if names else platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
