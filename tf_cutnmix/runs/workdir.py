"""The folder of a run: what an earlier run left there, and whether a new one may begin."""

import os
import pathlib
import shutil

from tf_cutnmix import files
from tf_cutnmix.errors import InputError
from tf_cutnmix.runs import checkpoints
from tf_cutnmix.runs.config import Config, settings_in

_MAY_CHANGE = (
    *("workdir", "data_dir", "export_dir", "export", "export_format", "max_pixels", "steps"),
)
_FILES = ("metrics.jsonl", "last.npz", "best.npz", "result.json", "mixed_batch.png")


def earlier_run(folder: pathlib.Path, config: Config) -> checkpoints.Checkpoint | None:
    """The checkpoint to go on from, if that is asked for and there is one. Writes nothing.

    Raises:
      InputError: the folder or the exports' folder cannot be written, the folder holds a run
        that is neither to be resumed nor overwritten, or one that had other settings.
      RunError: the checkpoint is damaged, or of an earlier version of this package.
    """
    _check_writable(folder)
    if config.exports:
        _check_writable(pathlib.Path(config.export_dir))
    flags = folder / "flags.cfg"
    if not flags.exists() or config.overwrite:
        return None
    if not config.resume:
        raise InputError(
            f"{folder} holds a run already: pass --resume to go on with it, --overwrite to "
            "replace it, or another --workdir"
        )
    before, now = settings_in(flags.read_text()), settings_in(config.flagfile())
    changed = _not_in(now, before)
    added = _not_in(before, now)
    if changed or added:
        raise InputError(
            f"{folder} was begun with {' '.join(changed) or 'fewer settings'}, "
            f"not with {' '.join(added) or 'fewer'}: resume it with the settings it has"
        )
    last = folder / "last.npz"
    return checkpoints.read(last) if last.exists() else None


def open_folder(folder: pathlib.Path, config: Config, fresh: bool) -> None:
    """Make the folder and write `flags.cfg`; a fresh run finds no files there of an earlier one.

    Raises:
      RunError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if fresh and (folder / "flags.cfg").exists():
            shutil.rmtree(folder / "tensorboard", ignore_errors=True)
            for name in _FILES:
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"--workdir={folder} cannot be written: {error.strerror}") from error
    files.write(folder / "flags.cfg", config.flagfile().encode())


def _not_in(others: dict[str, str], settings: dict[str, str]) -> list[str]:
    """The settings that others have not, or not with this value, as flags."""
    return [
        f"--{name}={value}"
        for name, value in sorted(settings.items())
        if name not in _MAY_CHANGE and others.get(name) != value
    ]


def _check_writable(path: pathlib.Path) -> None:
    existing = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise InputError(f"{path} cannot be a folder: {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{path} cannot be written: {existing} is read-only")
