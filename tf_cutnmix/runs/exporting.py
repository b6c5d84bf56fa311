"""The networks of a run as exports, at its end and afterwards."""

import dataclasses
import json
import pathlib
from typing import Any

from tf_cutnmix.distillation import OnlineDistiller
from tf_cutnmix.errors import InputError
from tf_cutnmix.runs import card, checkpoints, predictions
from tf_cutnmix.runs.build import Splits, build_model, check_classes, load_splits
from tf_cutnmix.runs.config import Config
from tf_cutnmix.runs.loading import batch_size
from tf_cutnmix.serving import check_installed, export, record

# Images to compare an export on, and to measure and calibrate its formats on.
_COMPARED = 32
_MEASURED = 1000
_CALIBRATION = 200


def export_run(config: Config) -> dict[str, str]:
    """Export the networks of a finished run once more, as the run's end would.

    Args:
      config: of the run, with what is to be exported, in which formats and where.

    Returns:
      Where each export is, by the name that `--export` has for it.

    Raises:
      InputError: the run has not finished, its data are no longer the same, or it was cut short
        by `--steps` and left no checkpoint of its end.
      RunError: a checkpoint cannot be read, or an export cannot be written.
    """
    check_installed(config.formats)
    folder = pathlib.Path(config.folder)
    result = _result(folder)
    splits = load_splits(config)
    config = dataclasses.replace(config, batch_size=batch_size(config, splits.train))
    model = build_model(config, splits.train)
    checkpoint, _ = checkpoints.newest(folder)
    if checkpoint:
        check_classes(checkpoint, splits, config)
        values = checkpoint.best or checkpoint.values[: len(model.variables)]
        checkpoints.restore(values, model.variables)
    if int(model.step.value) != result["best_on_validation"]["step"]:
        raise InputError(f"{folder} kept no checkpoint of its end: train it without --steps")
    kept = folder / "predictions.npz"
    said = predictions.read(kept) if kept.exists() else None
    return export_networks(model, splits, result, said, config)


def _result(folder: pathlib.Path) -> dict[str, Any]:
    """What a finished run found.

    Raises:
      InputError: it has not finished.
    """
    try:
        return json.loads((folder / "result.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} is no finished run: it has no result.json") from error


def export_networks(
    model: OnlineDistiller,
    splits: Splits,
    result: dict[str, Any],
    said: predictions.Predictions | None,
    config: Config,
) -> dict[str, str]:
    """Write the exports that are asked for, each with its card; where each of them is.

    A run of before predictions were kept has no cards.
    """
    best_peer = model.networks[result["best_peer"]]
    networks = {"teacher": model.averages, "peer": [best_peer], "ensemble": model.peers}
    train = splits.train.pixels
    count = _MEASURED if config.formats else _COMPARED
    written = {}
    for name in config.exports:
        suffix = "" if name == "teacher" else f"_{name}"
        version = export(
            networks[name],
            pathlib.Path(config.export_dir) / f"{config.name}{suffix}",
            splits.train.class_names,
            splits.test.pixels[:count],
            labels=splits.test.labels[:count] if config.formats else None,
            calibration=train[:: max(len(train) // _CALIBRATION, 1)][:_CALIBRATION],
            max_pixels=config.max_pixels,
            more={"MODEL_CARD.md": card.write(result, said, name).encode()} if said else None,
            formats=config.formats,
        )
        for line in record.lines(version):
            print(line, flush=True)
        written[name] = str(version)
    return written
