"""Evaluate an export: `python -m tf_cutnmix.evaluate --savedmodel=DIR --dataset=NAME`."""

import dataclasses
import json
import sys

from tf_cutnmix import command, escaping, exports, output, places
from tf_cutnmix.errors import InputError
from tf_cutnmix.settings import AT_LEAST_1, PIXELS, check, setting

SUMMARY = """\
Prints accuracy, balanced and of the top 5, negative log likelihood and expected calibration error
of an exported SavedModel on a data set, as JSON.

  python -m tf_cutnmix.evaluate --savedmodel=savedmodels/pictures_resnet8/1 --dataset=./pictures"""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of an evaluation.

    Raises:
      InputError: a setting is missing or outside its range.
    """

    savedmodel: str = exports.savedmodel("export")
    dataset: str = setting(
        "digits", "data", "'digits', a TFDS name, or a folder or a CSV file of pictures"
    )
    data_dir: str = setting("", "data", "where TFDS keeps its data (TFDS's own default if empty)")
    cache_dir: str = setting(
        "", "data", "folder where images, once read, lie ready, as that of tf_cutnmix.train"
    )
    split: str = setting("test", "data", "split to evaluate on, in TFDS syntax")
    image_size: int | str = setting(
        0,
        "data",
        "resize images to this many pixels a side, or to width x height; 0: as the export does",
        rule=PIXELS,
    )
    batch_size: int | None = setting(
        None,
        "data",
        "images per call; by default 500, or fewer of more than 32 x 32 pixels",
        rule=AT_LEAST_1,
    )
    classes_by_position: bool = setting(
        False, "data", "take the classes in their order, whatever they are called"
    )

    def __post_init__(self) -> None:
        check(self)
        exports.check_named(self.savedmodel)


def main(settings: Settings) -> None:
    """Print the scores of an export as JSON."""
    exports.find(settings.savedmodel, "savedmodel")
    places.check_dataset(settings.dataset)
    with command.quiet_tensorflow():
        from tf_cutnmix import data
        from tf_cutnmix.networks import served
        from tf_cutnmix.runs import outlook, scores
    export = served.load(settings.savedmodel, "savedmodel")
    with output.waiting(f"reading the images of {escaping.one_line(settings.dataset)}", 2):
        images = data.load(
            settings.dataset,
            settings.split,
            data_dir=settings.data_dir,
            image_size=settings.image_size or export.image_size,
            resize=export.resize,
            cache_dir=settings.cache_dir,
        )
    names = export.class_names if settings.classes_by_position else images.class_names
    columns = served.columns(settings.savedmodel, export.class_names, names)
    if len(columns) != len(images.class_names):
        raise InputError(
            f"{settings.savedmodel} tells {len(columns)} classes apart and "
            f"{settings.dataset} has {len(images.class_names)}: they do not fit together"
        )
    lacking = outlook.lacking(images.class_names, {settings.split: images.counts.tolist()})
    for note in (*images.notes, *lacking):
        print(note, file=sys.stderr)
    size = settings.batch_size or scores.images_at_once(*images.pixels.shape[1:3])
    with output.waiting("asking the export about them", 2):
        probabilities = scores.predictions(export.predict, images.pixels, size)
    print(json.dumps(scores.scores(probabilities[:, columns], images.labels), indent=2))


if __name__ == "__main__":
    sys.exit(command.run("tf_cutnmix.evaluate", SUMMARY, Settings, main))
