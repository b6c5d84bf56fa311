"""The model card of an export: what it is, what it was made from, how good it is, its limits."""

import shlex
from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np

from tf_cutnmix.escaping import markdown, one_line
from tf_cutnmix.runs import scores
from tf_cutnmix.runs.config import Config, named_in, settings_in, validation_from, with_defaults
from tf_cutnmix.runs.predictions import Predictions

_KINDS = {
    "teacher": "the mean prediction of the averaged peers, {peers} networks",
    "ensemble": "the mean prediction of the peers, {peers} networks",
    "peer": "one network, `{network}`, the one that did best on the validation split",
}
_LONGEST = 80
_BINS = 5


def write(
    result: dict[str, Any],
    predicted: Predictions,
    kind: str,
    temperature: float = 1.0,
    confident_from: float = 0.0,
) -> str:
    """The card in Markdown.

    Args:
      result: what `result.json` holds, without the places of the exports.
      predicted: of the test images.
      kind: of export: "teacher", "ensemble" or "peer".
      temperature: of its probabilities.
      confident_from: the least probability of a prediction that is confident.
    """
    network = result["best_peer"] if kind == "peer" else kind
    settings = settings_in("".join(f"{flag}\n" for flag in result["flags"]))
    source = validation_from(settings, result)
    if isinstance(source, str):
        validated = f", validated on {markdown(source)}"
    else:
        validated = f", {source:.0%} of it held out for validation" if source else ""
    probabilities, labels = predicted.probabilities[network], predicted.labels
    calibrated = scores.soften(probabilities, temperature)
    kept = calibrated.max(axis=1) >= confident_from
    names = [markdown(one_line(name, _LONGEST)) for name in result["class_names"]]
    parts = scores.recall(probabilities, labels)
    recall = ["—" if np.isnan(part) else f"{part:.1%}" for part in parts]
    counts = result["counts"]
    versions = [f"{name} {v}" for name, v in result["versions"].items() if name != "machine"]
    return _template().render(
        kind=kind,
        what=_KINDS[kind].format(peers=len(result["parameters"]), network=network),
        network=network,
        settings=settings,
        best=result["best_on_validation"],
        counts=counts,
        unlabelled=result.get("unlabelled_images", 0),
        represented=scores.represented(counts["test"]),
        validated=validated,
        classes=list(zip(names, recall, strict=True)),
        bins=list(zip(*scores.calibration(calibrated, labels, _BINS), strict=True))[1:],
        temperature=temperature,
        confident_from=confident_from,
        plain=scores.scores(probabilities, labels),
        kept=np.mean(kept),
        right=np.mean(calibrated[kept].argmax(axis=1) == labels[kept]) if kept.any() else None,
        rarest=names[np.argmin(counts["train"])],
        image_size=result["image_size"],
        command=command(result["flags"]),
        versions=", ".join(versions),
    )


def command(flags: Sequence[str]) -> str:
    """The command that repeats a run: the settings that are not the default, in a new folder."""
    made = named_in("\n".join(flags))
    start = with_defaults(Config(weights_from=made.get("weights_from", "none")))
    default = named_in(start.flagfile()) | {"weights_from": "none", "workdir": made.get("workdir")}
    chosen = [f"--{name}={value}" for name, value in made.items() if default.get(name) != value]
    words = ["python", "-m", "tf_cutnmix.train", *chosen, "--workdir=runs/again"]
    return one_line(shlex.join(words))


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tf_cutnmix.runs"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["markdown"] = markdown
    return environment.get_template("card.md")
