"""Ask an export about pictures: `python -m tf_cutnmix.predict --savedmodel=DIR PICTURES`."""

import dataclasses
import pathlib
import sys

from tf_cutnmix import command, escaping, exports, places
from tf_cutnmix.errors import InputError, RunError, listed
from tf_cutnmix.settings import AT_LEAST_1, FRACTION, Rule, check, setting

_NAMED = 10

SUMMARY = """\
Prints what an exported SavedModel says of pictures: the class, its probability, and what else it
may be. An answer that it is not confident of begins with "unsure". Files that cannot be read are
named and left out, and the command then ends with 1.

  python -m tf_cutnmix.predict --savedmodel=savedmodels/digits_resnet8/1 docs/digit.png
  python -m tf_cutnmix.predict --savedmodel=runs/pictures ./new ./old/*.jpg"""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a prediction.

    Raises:
      InputError: a setting is missing or outside its range.
    """

    pictures: tuple[str, ...] = setting(
        (), "input", "files, folders of pictures at any depth, or patterns", positional=True
    )
    savedmodel: str = exports.savedmodel("input")
    unsure_below: float | str = setting(
        "auto",
        "output",
        "probability below which an answer is told as unsure; auto: the export's own, from which "
        "on 95 % of the predictions were right in validation; 0: none",
        rule=Rule(
            lambda value: value == "auto" or (not isinstance(value, str) and FRACTION.holds(value)),
            "from 0 to 1, or auto",
        ),
    )
    batch_size: int = setting(32, "input", "files per call", rule=AT_LEAST_1)
    csv: str = setting("", "output", "file to write the answers into, as CSV")
    json: str = setting("", "output", "the same as JSON")
    out: str = setting("", "output", "the same as a page with small pictures")
    heatmap: bool = setting(False, "output", "lay over these what speaks for the answer")

    def __post_init__(self) -> None:
        check(self)
        exports.check_named(self.savedmodel)
        if not self.pictures:
            raise InputError("PICTURES is missing: name files, folders or patterns")
        if self.heatmap and not self.out:
            raise InputError("--heatmap lies over the pictures of a page: pass --out=FILE too")
        outputs = [path for path in (self.csv, self.json, self.out) if path]
        if len(set(outputs)) < len(outputs):
            raise InputError("--csv, --json and --out name one file twice: name each another")


def main(settings: Settings) -> None:
    """Print a table of answers and write the files that are asked for."""
    outputs = {name: getattr(settings, name) for name in ("csv", "json", "out")}
    outputs = {name: pathlib.Path(place) for name, place in outputs.items() if place}
    for name, path in outputs.items():  # before there is an answer to lose
        if not path.parent.is_dir() or (path.exists() and not path.is_file()):
            raise InputError(f"--{name}={path} cannot be written: name a file, its folder made")
    exports.find(settings.savedmodel, "savedmodel")
    for named in settings.pictures:
        places.matching(named)
    with command.quiet_tensorflow():
        from tf_cutnmix import files, predicting
        from tf_cutnmix.networks import served
    import tqdm

    paths, left_out = predicting.find(settings.pictures)
    if left_out:
        names = escaping.one_line(listed(list(map(str, left_out)), _NAMED))
        print(f"left out, being no pictures: {names}", file=sys.stderr)
    export = served.load(settings.savedmodel, "savedmodel")
    heatmap = export.model.signatures.get("heatmap") if settings.heatmap else None
    if settings.heatmap and not heatmap:
        raise InputError(
            f"--heatmap: {settings.savedmodel} has no signature heatmap: it was made by an earlier "
            "version, then export its run again, or of a network that names no stages"
        )
    below = None if isinstance(settings.unsure_below, str) else settings.unsure_below
    asked = predicting.ask(export, paths, batch_size=settings.batch_size, unsure_below=below)
    # Without a terminal it shows nothing.
    answers = list(tqdm.tqdm(asked, total=len(paths), unit=" pictures", leave=False, disable=None))
    contents = {
        "csv": predicting.as_csv,
        "json": predicting.as_json,
        "out": lambda answers: predicting.page(answers, settings.savedmodel, heatmap),
    }
    for name, path in outputs.items():
        files.write(path, contents[name](answers).encode(errors="backslashreplace"))
    broken = [answer for answer in answers if answer.problem]
    if len(broken) < len(answers):
        print(predicting.table(answers))
    for answer in broken:
        print(f"warning: {escaping.one_line(f'{answer.path}: {answer.problem}')}", file=sys.stderr)
    if broken:
        raise RunError(f"{len(broken)} of {len(answers)} files cannot be read")


if __name__ == "__main__":
    sys.exit(command.run("tf_cutnmix.predict", SUMMARY, Settings, main))
