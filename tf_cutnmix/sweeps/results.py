"""What the runs of a sweep have left in their folders."""

import json
import pathlib
import re
import statistics
from collections.abc import Mapping
from typing import Any

from tf_cutnmix.runs.config import Config, as_begun, settings_in
from tf_cutnmix.settings import Role, names_of

_SAY_NOTHING = names_of(Config, Role.PLACE, Role.KEPT)


def read(config: Config) -> dict[str, Any]:
    """The content of `result.json`; nothing if there is none or it is damaged."""
    try:
        return json.loads((pathlib.Path(config.workdir) / "result.json").read_text())
    except (OSError, ValueError):
        return {}


def is_done(config: Config) -> bool:
    """Whether the run's folder holds its result, made with the same settings, and its exports."""
    flags = pathlib.Path(config.workdir) / "flags.cfg"
    result = read(config)
    if not (flags.exists() and result) or set(config.exports) - {*result.get("exports", {})}:
        return False
    begun = flags.read_text()
    return _that_matter(begun) == _that_matter(as_begun(config, begun).flagfile())


def accuracies(result: Mapping[str, Any]) -> dict[str, float]:
    """From `result.json`: test accuracies, 0 to 1, after the epoch that validation chose."""
    test = result["best_on_validation"]["test"]
    peers = [value for name, value in test.items() if re.fullmatch(r"peer\d+_accuracy", name)]
    return {
        "teacher": test["teacher_accuracy"],
        "ensemble": test["ensemble_accuracy"],
        "mean peer": statistics.mean(peers),
    }


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for each run with its test accuracies."""
    width = max(map(len, results), default=0)
    lines = ["", f"{'test accuracy':<{width}}{'teacher':>11}{'ensemble':>11}{'mean peer':>11}"]
    for name, result in results.items():
        figures = "".join(f"{value:>11.2%}" for value in accuracies(result).values())
        lines.append(f"{name:<{width}}{figures}")
    return "\n".join(lines)


def _that_matter(flagfile: str) -> dict[str, str]:
    settings = settings_in(flagfile)
    return {name: value for name, value in settings.items() if name not in _SAY_NOTHING}
