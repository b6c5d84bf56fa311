"""Export a finished run once more: `python -m tf_cutnmix.export --run=DIR --export_format=onnx`."""

import dataclasses
import pathlib
import sys

from tf_cutnmix import command, escaping, files, output, places
from tf_cutnmix.errors import InputError
from tf_cutnmix.runs.config import FORMATS, Config, chosen_formats
from tf_cutnmix.settings import check, setting

SUMMARY = """\
Exports the networks of a finished run in further formats, as a new version. The run's data are
read again: the formats are tried on test images, and 8 bits calibrated on training images.

  python -m tf_cutnmix.export --run=runs/pictures --export_format=litert,onnx"""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of an export.

    Raises:
      InputError: a setting is missing or outside its range.
    """

    run: str = setting("", "run", "folder of a finished run; it must be named")
    export: str = setting(
        "",
        "export",
        "a comma list of teacher, peer, ensemble; by default what the run exports",
    )
    export_format: str = setting("savedmodel", "export", f"a comma list of {', '.join(FORMATS)}")
    export_dir: str = setting(
        "", "export", "exports go to <export_dir>/<name>/<version>/; by default the run's own"
    )
    data_dir: str = setting("", "data", "where TFDS keeps its data; by default the run's own")

    trust_code: bool = setting(
        False,
        "export",
        "import the module:function that the run's --arch names, and load its --teacher",
    )

    def __post_init__(self) -> None:
        check(self)
        if not self.run:
            raise InputError("--run is missing: name the folder of a finished run")
        chosen_formats(self.export_format)


def main(settings: Settings) -> None:
    """Export as the settings say, and print where."""
    config = config_of(settings)
    if not config.exports:
        raise InputError(f"{settings.run} exports nothing: pass --export=teacher,peer")
    places.check_dataset(config.dataset)
    with command.quiet_tensorflow():
        from tf_cutnmix.runs import exporting
    with output.waiting("reading the run's images, then exporting"):
        exported = exporting.export_run(config)
    for kind, path in exported.items():
        print(f"exported {kind}: {path}")


def config_of(settings: Settings) -> Config:
    """The settings of the run, with what this export changes.

    Raises:
      InputError: there is no run, its settings are not of this version, or they name code.
    """
    places.check_folder(settings.run, "run")
    flags = files.own(pathlib.Path(settings.run), "flags.cfg")
    if not flags.is_file():
        raise InputError(f"--run={settings.run} is no run: it holds no flags.cfg")
    changed = {
        name: getattr(settings, name)
        for name in ("export", "export_dir", "data_dir")
        if getattr(settings, name)
    }
    try:
        config = command.read(Config, flags)
    except InputError as error:
        raise InputError(f"{flags} is damaged, or of another version: {error}") from error
    code = [f"--arch={name}" for name in config.architectures if ":" in name]
    code += [f"--teacher={config.teacher}"] if config.teacher else []
    if code and not settings.trust_code:
        raise InputError(
            f"{flags} has {escaping.one_line(code[0])}, and to export the run is to run that: pass "
            "--trust_code if you trust whoever wrote it"
        )
    return dataclasses.replace(
        config, workdir=settings.run, export_format=settings.export_format, **changed
    )


if __name__ == "__main__":
    sys.exit(command.run("tf_cutnmix.export", SUMMARY, Settings, main))
