"""The networks of a run as exports, at its end and afterwards."""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Collection
from typing import Any

from tf_cutnmix import exports, files
from tf_cutnmix.distillation import OnlineDistiller
from tf_cutnmix.errors import InputError
from tf_cutnmix.runs import card, checkpoints, predictions, workdir
from tf_cutnmix.runs.build import build_model
from tf_cutnmix.runs.config import Config, settings_in
from tf_cutnmix.runs.loading import changes, load_splits
from tf_cutnmix.runs.plan import Plan, resolve
from tf_cutnmix.serving import check_installed, export, fresh_process, record_lines

# Images to compare an export on, and to measure and calibrate its formats on.
_COMPARED = 32
_MEASURED = 1000
_CALIBRATION = 200
# Settings of what is exported, and what exports and their cards take from `result.json`.
_OF_EXPORTS = ("export_format", "export_dir", "max_pixels", "calibrate")
_NEEDED = ("best_on_validation", "best_peer")


def export_run(config: Config) -> dict[str, str]:
    """Export the networks of a finished run once more, as the run's end would.

    Where the run's folder can be written, `result.json` then says where these are.

    Args:
      config: of the run, with what is to be exported, in which formats and where.

    Returns:
      Where each export is, by the name that `--export` has for it.

    Raises:
      InputError: the run has not finished, its data are no longer the same, its checkpoints are
        gone or of another moment, or the folder of the exports cannot be written.
      RunError: a checkpoint cannot be read, or an export cannot be written.
    """
    check_installed(config.formats)
    workdir.check_exports_writable(config)
    folder = pathlib.Path(config.folder)
    result, checkpoint = _result(folder), _checkpoint(folder)
    # Those that the run began with may be gone, and the checkpoint has all weights.
    config = dataclasses.replace(config, weights_from="none", freeze="none", new_images=True)
    plan = resolve(config, load_splits(config, checkpoint), checkpoint)
    if changed := changes(checkpoint, plan.splits):
        print(f"the export is tried on other images than the run had: {changed}", flush=True)
    model = build_model(plan)
    values = checkpoint.best or checkpoint.values[: len(model.variables)]
    checkpoints.restore(values, model.variables)
    step, expected = int(model.step.value), result["best_on_validation"]["step"]
    if step != expected:
        raise InputError(
            f"the checkpoints of {folder} are of step {step}, its result.json of step {expected}: "
            "let the run end, with --resume"
        )
    kept = files.own(folder, "predictions.npz")
    predicted = predictions.read(kept) if kept.exists() else None
    written = export_networks(model, plan, result, predicted)
    if os.access(folder, os.W_OK):
        for name, own in exports.record(folder, written).items():
            result[name] = {**result.get(name, {}), **own}
        write_result(folder, result)
    return written


def write_result(folder: pathlib.Path, result: dict[str, Any]) -> None:
    """Write `result.json`."""
    files.write(folder / "result.json", json.dumps(result, indent=2).encode() + b"\n")


def _result(folder: pathlib.Path) -> dict[str, Any]:
    """What `result.json` of a finished run holds."""
    path = files.own(folder, "result.json")
    try:
        result = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} is no finished run: it has no whole result.json") from error
    if missing := [name for name in _NEEDED if name not in result]:
        raise InputError(
            f"{folder}/result.json has no {missing[0]}: it is of another version; train the run "
            "again, with --overwrite"
        )
    return result


def _checkpoint(folder: pathlib.Path) -> checkpoints.Checkpoint:
    """The latest checkpoint of a run, which is in its own folder."""
    for path in (folder / "checkpoints", *checkpoints.paths(folder)):
        files.own(folder, str(path.relative_to(folder)))
    checkpoint, _ = checkpoints.newest(folder)
    if checkpoint is None:
        raise InputError(
            f"{folder}/checkpoints holds none, and with it the networks are gone: train the run "
            "again, with --overwrite"
        )
    return checkpoint


def made_before(config: Config) -> dict[str, str]:
    """Where the exports of a finished run are, by name, if they would be made the same again."""
    folder = pathlib.Path(config.folder)
    try:
        result = json.loads((folder / "result.json").read_text())
        before, kinds = settings_in("\n".join(result["flags"])), dict(result["exports"])
    except (OSError, ValueError, KeyError, TypeError):  # of another version, or damaged
        return {}
    now = settings_in(config.flagfile())
    if any(before[name] != now[name] for name in _OF_EXPORTS):
        return {}
    made = {}
    for name in kinds:
        with contextlib.suppress(InputError):  # It is gone.
            made[name] = str(exports.made_by(folder, result, name))
    return made


@fresh_process()
def export_networks(
    model: OnlineDistiller,
    plan: Plan,
    result: dict[str, Any],
    predicted: predictions.Predictions | None,
    but: Collection[str] = (),
) -> dict[str, str]:
    """Write the exports that are asked for, `but` some, each with its card; where each of them is.

    A network whose predictions an older run did not keep has no card.
    """
    best_peer = model.networks[result["best_peer"]]
    networks = {"teacher": model.averages, "peer": [best_peer], "ensemble": model.peers}
    config, splits = plan.config, plan.splits
    train = splits.train.pixels
    count = _MEASURED if config.formats else _COMPARED
    written = {}
    for name in (name for name in config.exports if name not in but):
        suffix = "" if name == "teacher" else f"_{name}"
        own = _calibration(plan, result, result["best_peer"] if name == "peer" else name)
        version = export(
            networks[name],
            pathlib.Path(config.export_dir) / f"{config.name}{suffix}",
            splits.train.class_names,
            splits.test.pixels[:count],
            labels=splits.test.labels[:count] if config.formats else None,
            calibration=train[:: max(len(train) // _CALIBRATION, 1)][:_CALIBRATION],
            max_pixels=config.max_pixels,
            how=config.resize,
            more=_card(result, predicted, name, own),
            formats=config.formats,
            **own,
        )
        for line in (*record_lines(version), *_in_words(version, **own)):
            print(line, flush=True)
        written[name] = str(version)
    return written


def _calibration(plan: Plan, result: dict[str, Any], network: str) -> dict[str, float]:
    """What `export` takes of a network's calibration; nothing where there is none.

    Runs of before have no temperature, or no confidence to be expected.
    """
    best, own = result["best_on_validation"], {}
    if plan.calibrates and (scaled := best["test"].get("scaled")):
        own["temperature"] = scaled[network]["temperature"]
        if confident := best["validation"].get("confident"):
            own["confident_from"] = confident[network]["threshold"]
    return own


def _in_words(
    version: pathlib.Path, temperature: float = 1.0, confident_from: float = 0.0
) -> list[str]:
    """A line about what calibration has made of an export's answers; none where there was none."""
    if temperature == 1:
        return []
    told = f"{version}: probabilities at temperature {temperature:.3g}"
    if confident_from > 1:
        return [f"{told}, of which none is confident"]
    return [f"{told}, confident from {confident_from:.1%} on" if confident_from else told]


def _card(
    result: dict[str, Any],
    predicted: predictions.Predictions | None,
    name: str,
    calibration: dict[str, float],
) -> dict[str, bytes]:
    """The card of an export, where the run has kept the network's predictions."""
    network = result["best_peer"] if name == "peer" else name
    if predicted is None or network not in predicted.probabilities:
        return {}
    return {"MODEL_CARD.md": card.write(result, predicted, name, **calibration).encode()}
