"""The card of an exported model: what it is, what it was made from, how good it is, its limits."""

import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_cutnmix.escaping import markdown, one_line
from tf_cutnmix.runs import scores
from tf_cutnmix.runs.config import Config, settings_in, validation_from
from tf_cutnmix.runs.predictions import Predictions

_KINDS = {
    "teacher": "the mean prediction of the averaged peers, {peers} networks",
    "ensemble": "the mean prediction of the peers, {peers} networks",
    "peer": "one network, `{network}`, the one that did best on the validation split",
}
_LONGEST = 80


def write(result: dict[str, Any], said: Predictions, kind: str) -> str:
    """The card in Markdown.

    Args:
      result: what `result.json` holds, without the places of the exports.
      said: of the test images.
      kind: of export: "teacher", "ensemble" or "peer".
    """
    network = result["best_peer"] if kind == "peer" else kind
    settings = settings_in("".join(f"{flag}\n" for flag in result["flags"]))
    peers = len(result["parameters"])
    parts = [
        f"# {kind.capitalize()} of {markdown(settings['arch'])} on {markdown(settings['dataset'])}",
        f"A classifier of images: {_KINDS[kind].format(peers=peers, network=network)}. It was "
        f"trained by tf_cutnmix with `--method={settings['method']}` and `--mix="
        f"{settings['mix']}`, and tells {len(result['class_names'])} classes apart.",
        "## Figures",
        _figures(result, network),
        "## Classes and data",
        _data(result, said, network, settings),
        "## Calibration",
        _calibration(said, network),
        "## Limits",
        _limits(result),
        "## The command",
        f"```bash\n{command(result['flags'])}\n```",
        "Made with " + ", ".join(f"{name} {version}" for name, version in _versions(result)) + ".",
    ]
    return "\n\n".join(parts) + "\n"


def command(flags: Sequence[str]) -> str:
    """The command that repeats a run: the settings that are not the default, in a new folder."""
    default = set(Config().flagfile().splitlines())
    told = [flag for flag in flags if flag not in default and not flag.startswith("--workdir=")]
    return one_line(shlex.join(["python", "-m", "tf_cutnmix.train", *told, "--workdir=runs/again"]))


def _figures(result: dict[str, Any], network: str) -> str:
    best = result["best_on_validation"]
    lines = ["| split | images | accuracy | balanced accuracy | calibration error |"]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    for split in ("validation", "test"):
        if split in best:
            kinds = ("accuracy", "balanced_accuracy", "calibration_error")
            cells = [f"{best[split][f'{network}_{kind}']:.2%}" for kind in kinds]
            images = sum(result["counts"][split])
            lines.append(f"| {split} | {images} | {' | '.join(cells)} |")
    chosen = "The validation split chose the epoch" + (
        ", and this network among the others." if network not in ("teacher", "ensemble") else "."
    )
    if "validation" not in best:
        chosen = "Without a validation split the last epoch counts, and the first network."
    return (
        "\n".join(lines)
        + f"\n\nAfter epoch {best['epoch']}. {chosen} The test split chose nothing. Balanced "
        "accuracy is the mean of the recalls of the classes that have images, on test "
        f"{scores.represented(result['counts']['test'])}; calibration error is the expected one in "
        "15 bins."
    )


def _data(result: dict[str, Any], said: Predictions, network: str, settings: dict[str, str]) -> str:
    recall = scores.recall(said.probabilities[network], said.labels)
    lines = ["| class | training images | validation | test | recall on test |"]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    columns = [result["counts"][split] for split in ("train", "validation", "test")]
    for name, part, *counts in zip(result["class_names"], recall, *columns, strict=True):
        shown = "—" if np.isnan(part) else f"{part:.1%}"
        cells = " | ".join(map(str, counts))
        lines.append(f"| {markdown(one_line(name, _LONGEST))} | {cells} | {shown} |")
    source = validation_from(settings, result)
    if isinstance(source, str):
        validated = f", validated on {markdown(source)}"
    else:
        validated = f", {source:.0%} of it held out for validation" if source else ""
    return (
        f"Data set {markdown(settings['dataset'])}: trained on {markdown(settings['train_split'])}"
        f"{validated}, tested on {markdown(settings['test_split'])}.\n\n" + "\n".join(lines)
    )


def _calibration(said: Predictions, network: str) -> str:
    counts, confident, right = scores.calibration(said.probabilities[network], said.labels, 5)
    lines = ["| it says | test images | mean confidence | of them right |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for number in range(1, 6):
        if count := counts[number]:
            sure = f"{confident[number] / count:.1%} | {right[number] / count:.1%}"
            lines.append(f"| {(number - 1) / 5:.0%} to {number / 5:.0%} | {count:.0f} | {sure} |")
    return "\n".join(lines)


def _limits(result: dict[str, Any]) -> str:
    height, width = result["image_size"]
    counts = dict(zip(result["class_names"], result["counts"]["train"], strict=True))
    rarest = min(counts, key=lambda name: counts[name])
    lines = [
        f"- It always answers with one of its {len(counts)} classes, also about a picture of none "
        "of them.",
        f"- Every picture is resized to {width} x {height} pixels: what cannot be seen at that "
        "size it cannot tell.",
        f"- It has seen {sum(counts.values())} training images; of its rarest class, "
        f"{markdown(one_line(rarest, _LONGEST))}, {counts[rarest]}.",
        f"- Its figures are of {sum(result['counts']['test'])} test images from the same source. "
        "Pictures from elsewhere, of another camera or light, may be harder.",
    ]
    return "\n".join(lines)


def _versions(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, version) for name, version in result["versions"].items() if name != "machine"]
