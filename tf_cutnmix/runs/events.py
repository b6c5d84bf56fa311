"""What TensorBoard shows of a run: made from its history, and made anew when it goes on."""

import pathlib
import shutil
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

import tensorflow as tf

from tf_cutnmix.errors import RunError


class Events:
    """The rows of `metrics.jsonl` and a picture as event files, in a folder of their own.

    Use it as a context, which begins without what the folder held and closes the files. Its
    functions raise a `RunError` where they cannot be written.

    Args:
      folder: gets `train` and `validation`.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self._writers: dict[str, Any] = {}

    def __enter__(self) -> "Events":
        shutil.rmtree(self.folder, ignore_errors=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for writer in self._writers.values():
            writer.close()

    def show_picture(self, name: str, picture: tf.Tensor) -> None:
        """Add a picture `[height, width, 3]` uint8."""
        self._write("train", 0, lambda: tf.summary.image(name, picture[tf.newaxis]))

    def add(self, rows: Iterable[Mapping[str, float]]) -> None:
        """Add the figures of epochs, under the names that Keras' callback gives them."""
        for row in rows:
            for kind, prefix in (("train", ""), ("validation", "val_")):
                self._add(kind, int(row["epoch"]) - 1, _of_kind(row, prefix))

    def _add(self, kind: str, step: int, figures: Mapping[str, float]) -> None:
        def write() -> None:
            for name, value in figures.items():
                tf.summary.scalar(f"epoch_{name}", value)

        if figures:
            self._write(kind, step, write)

    def _write(self, kind: str, step: int, write: Any) -> None:
        try:
            if kind not in self._writers:
                self._writers[kind] = tf.summary.create_file_writer(str(self.folder / kind))
            with self._writers[kind].as_default(step):
                write()
            self._writers[kind].flush()
        except tf.errors.OpError as error:
            reason = error.message.splitlines()[0].split("}} ")[-1]
            raise RunError(f"cannot write {reason}") from error


def _of_kind(row: Mapping[str, float], prefix: str) -> dict[str, float]:
    """The figures of the training or the validation images, without the prefix of their names."""
    validation = {name for name in row if name.startswith("val_")}
    names = validation if prefix else row.keys() - validation - {"epoch"}
    return {name.removeprefix(prefix): row[name] for name in names}
