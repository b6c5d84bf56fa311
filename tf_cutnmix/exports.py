"""Where an export lies: what is named is one version, all of them, or the run that made it.

A run's `result.json` says where its exports are and has a fingerprint of each. Whoever made the
folder of a run decides what lies in it, and is not to decide what else is loaded: outside of it an
export is taken for the run's only by its fingerprint.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from tf_cutnmix import files, places
from tf_cutnmix.errors import InputError
from tf_cutnmix.escaping import one_line
from tf_cutnmix.settings import setting

_GRAPH = "saved_model.pb"
_LONGEST = 200


def savedmodel(group: str) -> Any:
    """The setting `savedmodel` of a command that asks an export; `check_named` goes with it."""
    return setting(
        "",
        group,
        "what to ask: the folder of an export, savedmodels/<name>/<version>, or of a run that made "
        "one; it must be named",
    )


def check_named(folder: str) -> None:
    """Raise `InputError` if a command was not told which export to ask."""
    if not folder:
        raise InputError("--savedmodel is missing: name the folder of an export, or of a run")


def find(folder: str, flag: str) -> pathlib.Path:
    """The folder of the SavedModel that is meant.

    Args:
      folder: `savedmodels/<name>/<version>`; `savedmodels/<name>`, for its newest version; or a
        run's, for the teacher that it exported, or what it exported in its place.
      flag: that named the folder, for the errors.

    Raises:
      InputError: there is no such folder or no SavedModel in it, or the run's is gone or another.
    """
    places.check_folder(folder, flag)
    path = pathlib.Path(os.path.expanduser(folder))
    if (path / _GRAPH).is_file():
        return path
    versions = [one.parent for one in path.glob(f"*/{_GRAPH}") if one.parent.name.isdecimal()]
    if versions:
        return max(versions, key=lambda version: int(version.name))
    result = _result(path)
    if result is None:
        run = (path / "flags.cfg").is_file()
        why = ": that run has not ended, let it, with --resume" if run else ""
        raise InputError(f"--{flag}={folder} holds no {_GRAPH}{why}")
    exports = result.get("exports")
    if not (isinstance(exports, dict) and exports):
        raise InputError(
            f"--{flag}={folder}: that run exported nothing: python -m tf_cutnmix.export "
            "--export=teacher exports it without training"
        )
    try:
        return made_by(path, result, "teacher" if "teacher" in exports else next(iter(exports)))
    except InputError as error:
        raise InputError(f"--{flag}={folder}: {error}") from error


def made_by(run: pathlib.Path, result: Mapping[str, Any], kind: str) -> pathlib.Path:
    """Where the export of a kind is that a run made.

    It is looked for where the run says; then, by the last three parts of that, in the run's folder
    and in those above it, as run and exports may have been moved together.

    Args:
      run: its folder.
      result: what its `result.json` holds, whoever wrote it.
      kind: "teacher", "peer" or "ensemble".

    Raises:
      InputError: there is none, or not the one that the run made.
    """
    recorded = result["exports"][kind]
    if not isinstance(recorded, str):
        raise InputError("its result.json is damaged: an export's place is no text")
    known = result.get("fingerprints")
    wanted = known.get(kind) if isinstance(known, dict) else None
    # os.path takes a path that no system does for one that is not there.
    found = [place for place in _places(run, recorded) if os.path.isfile(place / _GRAPH)]
    for place in found:
        if place.resolve().is_relative_to(run.resolve()) or fingerprint(place) == wanted:
            return place
    if not found:
        raise InputError(
            f"that run exported to {one_line(recorded, _LONGEST)}, where no export is: name where "
            "it lies now, or export the run once more, by python -m tf_cutnmix.export"
        )
    there = one_line(str(found[0]))
    if wanted:
        raise InputError(f"{there} is not what that run exported; if you trust it, name it itself")
    raise InputError(
        f"that run says that its export is outside of its folder, and has no fingerprint of it; "
        f"if you trust what lies there, name it itself: {there}"
    )


def record(run: pathlib.Path, exported: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What a run's `result.json` holds of its exports, by kind.

    Returns:
      `exports`, where they are: from the run's folder if they lie in it, else from the root; and
      their `fingerprints`.
    """
    own = run.resolve()
    paths = {kind: pathlib.Path(place).resolve() for kind, place in exported.items()}
    return {
        "exports": {
            kind: str(path.relative_to(own) if path.is_relative_to(own) else path)
            for kind, path in paths.items()
        },
        "fingerprints": {kind: fingerprint(path) for kind, path in paths.items()},
    }


def fingerprint(export: pathlib.Path) -> str:
    """SHA-256 of all files of an export with their names, in hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(path for path in export.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        digest.update(content + os.fsencode(path.relative_to(export).as_posix()) + b"\0")
    return digest.hexdigest()


def _places(run: pathlib.Path, recorded: str) -> Iterator[pathlib.Path]:
    """Where an export may lie, the likeliest place first."""
    yield run / recorded
    end = pathlib.PurePath(*pathlib.PurePath(recorded).parts[-3:])
    for folder in (run, *run.absolute().parents):
        yield folder / end


def _result(run: pathlib.Path) -> dict[str, Any] | None:
    """What a run's `result.json` holds; None where there is none that can be read."""
    path = files.own(run, "result.json")
    try:
        result = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return result if isinstance(result, dict) else {}
