"""What TensorBoard shows of a run: made from its history, and made again when it is resumed."""

import contextlib
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_cutnmix.distillation import OnlineDistiller
from tf_cutnmix.errors import RunError

_SIDE = 96
_PICTURED = 8


class Events:
    """The rows of `metrics.jsonl` and a picture as event files, in a folder of their own.

    Use it as a context, which begins without what the folder held and closes the files.

    Raises:
      RunError: they cannot be written.

    Args:
      folder: gets `train` and `validation`.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self._writers: dict[str, Any] = {}

    def __enter__(self) -> "Events":
        shutil.rmtree(self.folder, ignore_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers.values():
            writer.close()

    def show_picture(self, name: str, picture: tf.Tensor) -> None:
        """Add a picture `[height, width, 3]` uint8."""
        with self._writing("train", 0):
            tf.summary.image(name, picture[tf.newaxis])

    def add(self, rows: Iterable[Mapping[str, float]]) -> None:
        """Add the figures of epochs, under the names that Keras' callback gives them."""
        for row in rows:
            step = int(row["epoch"]) - 1
            validation = {name: value for name, value in row.items() if name.startswith("val_")}
            training = {n: v for n, v in row.items() if n not in validation and n != "epoch"}
            for kind, figures in (("train", training), ("validation", validation)):
                if figures:
                    with self._writing(kind, step):
                        for name, value in figures.items():
                            tf.summary.scalar(f"epoch_{name.removeprefix('val_')}", value)

    @contextlib.contextmanager
    def _writing(self, kind: str, step: int) -> Iterator[None]:
        try:
            if kind not in self._writers:
                self._writers[kind] = tf.summary.create_file_writer(str(self.folder / kind))
            with self._writers[kind].as_default(step):
                yield
            self._writers[kind].flush()
        except tf.errors.OpError as error:
            reason = error.message.splitlines()[0].split("}} ")[-1]
            raise RunError(f"cannot write {reason}") from error


def mixed_batch(model: OnlineDistiller, images: tf.Tensor, labels: tf.Tensor) -> np.ndarray:
    """The start of the first batch: a row of images, of their partners, of each peer's views.

    Args:
      model: with an augmentation.
      images: `[B, H, W, 3]` uint8, the first batch.
      labels: integers `[B]`.

    Returns:
      `[height, width, 3]` uint8: the images side by side, small ones enlarged, white between them.
    """
    step = tf.constant(0, tf.int64)
    shown = model.make_views(images, labels, step)
    rows = [shown.unmixed[0], *shown.views]
    for draw in shown.draws[-1:]:
        rows.insert(1, tf.gather(rows[0], draw.partner))
    sheet = np.stack([row[:_PICTURED] for row in rows])
    scale = max(1, _SIDE // sheet.shape[2])
    sheet = sheet.repeat(scale, axis=2).repeat(scale, axis=3)
    border = ((0, 0), (0, 0), (2, 2), (2, 2), (0, 0))
    return np.vstack([np.hstack(row) for row in np.pad(sheet, border, constant_values=255)])
