"""What Keras is told in its own places, and this package cannot do, is refused before it begins."""

import functools
import json
import pathlib
import sys

import keras
import pytest

from tests.processes import python
from tf_cutnmix import command, keras_choices
from tf_cutnmix.errors import InputError


@pytest.fixture
def home(tmp_path, monkeypatch) -> pathlib.Path:
    """A folder for keras.json, in a process that has not imported Keras yet."""
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path


def test_another_backend_is_refused_and_the_environment_comes_before_the_file(home, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(InputError, match=r"^KERAS_BACKEND has 'jax'.*needs 'tensorflow'"):
        keras_choices.check()
    (home / "keras.json").write_text('{"backend": "jax"}')
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    keras_choices.check()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"backend": "jax"}, "keras.json has 'jax' for Keras' backend, and"),
        ({"image_data_format": "channels_first"}, "keras.json has 'channels_first' for Keras'"),
        ([1], "keras.json has"),
    ],
)
def test_a_file_that_asks_for_something_else_is_named(home, content, words):
    (home / "keras.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=words):
        keras_choices.check()


@pytest.mark.parametrize("content", [b"{}", b"{", b"\xff", None])
def test_what_says_nothing_leaves_keras_as_it_is(home, content):
    if content is not None:
        (home / "keras.json").write_bytes(content)
    keras_choices.check()


def test_keras_itself_is_asked_where_it_runs(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # too late to mean anything
    keras_choices.check()
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    with pytest.raises(InputError, match=r"keras.config.image_data_format\(\) has 'channels_first"):
        keras_choices.check()


def test_doors_and_the_package_itself_say_so_and_help_and_reports_need_no_keras(
    tmp_path, home, monkeypatch
):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(InputError, match="KERAS_BACKEND has 'jax'"), command.quiet_tensorflow():
        pass

    run = functools.partial(python, "-P", cwd=tmp_path)

    refused = run("-m", "tf_cutnmix.train")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: KERAS_BACKEND has 'jax'")
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()
    assert (
        run("-c", "from tf_cutnmix import CutNMix")
        .stderr.splitlines()[-1]
        .startswith("tf_cutnmix.errors.InputError: KERAS_BACKEND has 'jax' for Keras' backend")
    )
    assert run("-m", "tf_cutnmix.train", "--help").returncode == 0
    assert "holds no run" in run("-m", "tf_cutnmix.report", ".").stderr
