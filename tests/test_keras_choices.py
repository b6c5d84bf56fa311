"""What Keras is told in its own places, and this package cannot do, is refused before it begins."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import pytest

from tf_cutnmix import keras_choices
from tf_cutnmix.errors import InputError


@pytest.fixture
def home(tmp_path, monkeypatch) -> pathlib.Path:
    """A folder for keras.json, in a process that has not imported Keras yet."""
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("backend", ["jax", "torch", "numpy", "openvino", "nonsense"])
def test_another_backend_is_refused(home, monkeypatch, backend):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    with pytest.raises(InputError, match=f"^KERAS_BACKEND has '{backend}'.*needs 'tensorflow'"):
        keras_choices.check()


@pytest.mark.parametrize(
    ("name", "value"), [("image_data_format", "channels_first"), ("backend", "jax")]
)
def test_a_file_that_asks_for_something_else_is_named(home, name, value):
    (home / "keras.json").write_text(json.dumps({name: value}))
    with pytest.raises(InputError, match=f"keras.json has '{value}' for Keras' {name}, and"):
        keras_choices.check()


def test_the_environment_comes_before_the_file(home, monkeypatch):
    (home / "keras.json").write_text('{"backend": "jax"}')
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    keras_choices.check()


@pytest.mark.parametrize("content", [b"{}", b"{", b"\xff", None])
def test_what_says_nothing_leaves_keras_as_it_is(home, content):
    if content is not None:
        (home / "keras.json").write_bytes(content)
    keras_choices.check()


def test_a_file_of_another_shape_is_refused(home):
    (home / "keras.json").write_text("[1]")
    with pytest.raises(InputError, match=r"keras\.json has"):
        keras_choices.check()


def test_keras_itself_is_asked_where_it_runs(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # too late to mean anything
    keras_choices.check()
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    with pytest.raises(InputError, match=r"keras.config.image_data_format\(\) has 'channels_first"):
        keras_choices.check()


@pytest.mark.parametrize("door", ["train", "evaluate", "predict", "export", "sweep"])
def test_every_door_says_so_in_one_line(tmp_path, door):
    settings = {
        "evaluate": ["--savedmodel=x"],
        "predict": ["--savedmodel=x", "x.png"],
        "export": ["--run=x"],
        "sweep": ["--workdir=sweep", "--grid=seed=0"],
    }
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "flags.cfg").write_text("--export=teacher\n")
    process = run(tmp_path, "-m", f"tf_cutnmix.{door}", *settings.get(door, []))
    assert process.returncode == 1
    assert process.stderr.startswith("error: KERAS_BACKEND has 'jax'")
    assert len(process.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_importing_from_the_package_says_so_too(tmp_path):
    process = run(tmp_path, "-c", "from tf_cutnmix import CutNMix")
    assert process.stderr.splitlines()[-1].startswith(
        "tf_cutnmix.errors.InputError: KERAS_BACKEND has 'jax' for Keras' backend"
    )


def test_help_and_reports_need_no_keras(tmp_path):
    assert run(tmp_path, "-m", "tf_cutnmix.train", "--help").returncode == 0
    assert "holds no run" in run(tmp_path, "-m", "tf_cutnmix.report", ".").stderr


def run(folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-P", *arguments]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
