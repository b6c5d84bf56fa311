"""The folder of a run: what an earlier run left there, and whether a new one may begin."""

import dataclasses
import os
import pathlib
import shutil

from tf_cutnmix import files
from tf_cutnmix.errors import InputError, RunError
from tf_cutnmix.runs import checkpoints
from tf_cutnmix.runs.checkpoints import Checkpoint
from tf_cutnmix.runs.config import Config, as_begun, settings_in, with_defaults
from tf_cutnmix.settings import Role, names_of

_MAY_CHANGE = names_of(Config, Role.PLACE, Role.KEPT, Role.MADE)
_FOLDERS = ("checkpoints", "tensorboard")
_FILES = (
    *("flags.cfg", "metrics.jsonl", "result.json", "predictions.npz", "mistakes.csv"),
    *("contradictions.csv", "mixed_batch.png", "test_image.png", "run.html"),
)


def check_writable(config: Config) -> None:
    """Raise `InputError` unless the run's folder and that of its exports can be written."""
    _check_writable(pathlib.Path(config.folder))
    if config.exports:
        check_exports_writable(config)


def check_exports_writable(config: Config) -> None:
    """Raise `InputError` unless the folders of a run's exports can be written."""
    _check_writable(pathlib.Path(config.export_dir) / f"{config.name}_ensemble")


def earlier_run(config: Config) -> tuple[Checkpoint | None, Config]:
    """The checkpoint to resume from, if that is asked for and there is one. Writes nothing.

    Returns:
      The checkpoint, and the settings of the run: those that are passed, with the `restarts` that
      it has.

    Raises:
      InputError: the folder holds a run that is neither to be resumed nor overwritten, or one
        that had other settings.
      RunError: no checkpoint can be read, or what is there is of an earlier version.
    """
    folder = pathlib.Path(config.folder)
    begun = any((folder / name).exists() for name in (*_FOLDERS, *_FILES))
    if config.overwrite or not begun:
        return None, config
    if not config.resume:
        raise InputError(
            f"{folder} holds a run already: pass --resume to go on with it, --overwrite to "
            "replace it, or another --workdir"
        )
    checkpoint, passed_over = checkpoints.newest(folder)
    if checkpoint is None:
        _check_only_begun(folder)
    for reason in passed_over:
        print(f"{reason}: the checkpoint before it is used", flush=True)
    flags = _recorded_flags(folder, checkpoint) or with_defaults(config).flagfile()
    config, before = as_begun(config, flags), settings_in(flags)
    config = _made_longer(config, before, checkpoint)
    now = settings_in(config.flagfile())
    changed, added = _not_in(now, before), _not_in(before, now)
    if changed or added:
        other = f"with {' '.join(added)}" if added else "without"
        raise InputError(
            f"{folder} was begun with {' '.join(changed) or 'fewer settings'}, not {other}: resume "
            "it with the settings it has"
        )
    return checkpoint, config


def open_folder(folder: pathlib.Path, config: Config, checkpoint: Checkpoint | None) -> None:
    """Write `flags.cfg`; a fresh run finds nothing there of an earlier one.

    The result of a run that is made longer is kept under another name.

    Raises:
      RunError: the folder cannot be written.
    """
    try:
        if checkpoint is None:
            for name in _FOLDERS:
                shutil.rmtree(folder / name, ignore_errors=True)
            for name in _FILES:
                (folder / name).unlink(missing_ok=True)
        elif checkpoint.facts["epoch"] in config.stretches[:-1] and not checkpoint.facts["batch"]:
            result = folder / "result.json"
            if result.exists():
                result.rename(folder / f"result_{checkpoint.facts['epoch']}_epochs.json")
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}") from error
    files.remove_half_written(folder / "checkpoints")
    files.write(folder / "flags.cfg", config.flagfile().encode())


def _check_only_begun(folder: pathlib.Path) -> None:
    """Raise an error if a run without a checkpoint left more than a beginning."""
    for name in ("result.json", "metrics.jsonl"):
        if (folder / name).exists():
            raise InputError(
                f"{folder} has {name} but no checkpoint to go on from: pass --overwrite to lose "
                "it, or another --workdir"
            )


def _recorded_flags(folder: pathlib.Path, checkpoint: Checkpoint | None) -> str:
    """The flags in the checkpoint, which nobody edits, or else in `flags.cfg`, if there are any."""
    flags = folder / "flags.cfg"
    if checkpoint is not None:
        if not flags.exists():
            print(f"{flags} is missing: it is written again from the checkpoint", flush=True)
        return str(checkpoint.facts["flags"])
    try:
        return flags.read_text() if flags.exists() else ""
    except (OSError, ValueError) as error:
        raise InputError(f"{flags} cannot be read, pass --overwrite: {error}") from error


def _made_longer(config: Config, before: dict[str, str], checkpoint: Checkpoint | None) -> Config:
    """The settings with the run's restarts, one more if it is finished and is made longer."""
    restarts = before["restarts"]
    epochs = before["epochs"]
    finished = checkpoint is not None and str(checkpoint.facts["epoch"]) == epochs
    if finished and config.epochs > int(epochs):
        restarts = f"{restarts},{epochs}".lstrip(",")
        before["epochs"] = str(config.epochs)
    return dataclasses.replace(config, restarts=restarts)


def _not_in(others: dict[str, str], settings: dict[str, str]) -> list[str]:
    """The settings that others lack or have with another value, as flags."""
    return [
        f"--{name}={value}"
        for name, value in sorted(settings.items())
        if name not in _MAY_CHANGE and others.get(name) != value
    ]


def _check_writable(path: pathlib.Path) -> None:
    files.check_names(path)
    existing = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise InputError(f"{path} cannot be a folder: {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{path} cannot be written: {existing} is read-only")
