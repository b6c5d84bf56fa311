"""The process in which exports are tried: one for a block, gone with it, made anew if it fails."""

import contextvars
import os
import pathlib

import keras
import numpy as np
import pytest

from tf_cutnmix.errors import RunError
from tf_cutnmix.serving import export, fresh_process


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """An export of a network that answers each image with a third for each class."""
    images = keras.Input((4, 4, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(images)
    logits = keras.layers.Dense(3, kernel_initializer="zeros")(pooled)
    network = keras.Model(images, {"features": pooled, "logits": logits})
    folder = tmp_path_factory.mktemp("exports")
    return export([network], folder, ["a", "b", "c"], np.zeros([1, 4, 4, 3], np.uint8))


@pytest.fixture
def request_file(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "request.npz"
    images = np.full([2, 4, 4, 3], 7, np.uint8)
    np.savez(path, images=images, bytes=np.array([b"no picture"] * 2, dtype=object))
    return path


def test_a_block_has_one_process_which_ends_with_it() -> None:
    def in_a_block() -> None:
        with fresh_process() as outer, fresh_process() as inner:
            assert outer.begin() is inner.begin()
            process = outer.begin()
            assert process.poll() is None
        assert process.poll() is not None
        with fresh_process() as another:
            assert another is not outer

    contextvars.Context().run(in_a_block)  # in no block of the suite


@pytest.mark.long
def test_after_one_that_does_not_load_the_next_is_answered(
    version: pathlib.Path,
    request_file: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What somebody's Python prints as it starts is no answer.
    (tmp_path / "sitecustomize.py").write_text("print('hello')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    answer = tmp_path / "answer.npz"
    with fresh_process() as process:
        with pytest.raises(RunError, match=r"TensorFlow alone: .*does not exist") as caught:
            process.answer(tmp_path / "nothing", request_file, answer)
        assert "\n" not in str(caught.value)
        assert not answer.exists()
        process.answer(version, request_file, answer)
    with np.load(answer) as answers:
        np.testing.assert_allclose(answers["serving_default"], np.full([2, 3], 1 / 3), rtol=1e-6)
        np.testing.assert_array_equal(answers["features"], np.full([2, 3], 7))


def test_the_terminal_does_not_interrupt_it() -> None:
    with fresh_process() as process:
        assert os.getpgid(process.begin().pid) != os.getpgid(0)


def test_a_process_that_is_killed_is_told_in_one_line(
    version: pathlib.Path, request_file: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with fresh_process() as process:
        process.begin().kill()
        process.begin().wait()
        with pytest.raises(RunError, match=r"TensorFlow alone: signal 9 has ended it$"):
            process.answer(version, request_file, tmp_path / "answer.npz")
