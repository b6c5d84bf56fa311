"""`tf-cutnmix`, and what is said before TensorFlow is loaded."""

import configparser
import importlib
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

import tf_cutnmix
from tests.run_folders import write_run
from tf_cutnmix import cli

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs `tf-cutnmix` in this process; its exit code, stdout and stderr."""

    def called(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tf-cutnmix", *arguments])
        return cli.main(), *capsys.readouterr()

    return called


def test_help_has_a_line_for_each_command_and_every_door_is_a_command(run) -> None:
    doors = {
        path.stem for path in (ROOT / "tf_cutnmix").glob("*.py") if "\nSUMMARY" in path.read_text()
    }
    for arguments in ((), ("--help",), ("-h",), ("help",)):
        code, out, err = run(*arguments)
        assert (code, err) == (0, "")
        assert set(re.findall(r"^  (\w+) +\w", out, re.MULTILINE)) == doors == set(cli.COMMANDS)
    for name in doors:
        code, out, _ = run(name, "--help")
        assert code == 0
        assert out.startswith(f"usage: python -m tf_cutnmix.{name} ")


def test_the_entry_point_is_the_function_and_tells_the_version(run) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    name, _, place = setup["options.entry_points"]["console_scripts"].strip().partition(" = ")
    module, _, function = place.partition(":")
    assert name == "tf-cutnmix"
    assert getattr(importlib.import_module(module), function) is cli.main
    assert run("--version") == (0, f"tf_cutnmix {tf_cutnmix.__version__}\n", "")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("trian", "unknown command 'trian': did you mean 'train'?"),
        ("--epochs=3", "--epochs=3 stands in a command's place: name train, "),
        ("train --img_size=3", "unknown flag 'img_size': did you mean 'image_size'?"),
        ("train --image-size=3", "did you mean 'image_size'?"),
        ("train -epoch=3", "did you mean 'epochs'?"),
        ("train --noresum", "did you mean 'noresume'?"),
        ("train --flagfil=x", "did you mean 'flagfile'?"),
        ("train --qqqq", "unknown flag 'qqqq': --help lists all"),
        ("predict --savedmodl=x", "did you mean 'savedmodel'?"),
        ("train --image_size=64*48", "--image_size=64*48: must be a whole number of pixels a side"),
        ("evaluate --image_size=64x", "or width x height, such as 96x64"),
        ("train --epochs=1.5", "--epochs=1.5: must be a whole number from 1 to"),
        ("train --alpha=x", "--alpha=x: must be a number above 0"),
    ],
)
def test_what_is_misspelt_gets_its_nearest_in_a_line(line, words, run) -> None:
    code, out, err = run(*shlex.split(line))
    assert (code, out) == (1, "")
    assert words in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "train --dataset=./picture",
            "--dataset=./picture: there is no such folder: did you mean './pictures'?",
        ),
        ("train --weights_from=nowhere.keras", "--weights_from=nowhere.keras: there is no such"),
        ("train --method=kd --teacher=pictures", "--teacher=pictures holds no saved_model.pb"),
        (
            "evaluate --savedmodel=rum",
            "--savedmodel=rum: there is no such folder: did you mean 'run'?",
        ),
        ("evaluate --savedmodel=export --dataset=~/nowhere/at/all", "--dataset=~/nowhere/at/all"),
        ("predict --savedmodel=picturs pictures", "did you mean 'pictures'?"),
        ("predict --savedmodel=export pictures/*.jpg", "'pictures/*.jpg': there is no such file"),
        ("export --run=rum", "--run=rum: there is no such folder: did you mean 'run'?"),
        ("export --run=run", "--dataset=./nowhere: there is no such folder"),
        ("report rums", "rums: there is no such folder"),
        (
            "sweep --workdir=sweep --grid=seed=0 --dataset=./nowhere",
            "--dataset=./nowhere: there is",
        ),
    ],
)
def test_a_folder_that_is_not_there_is_told_before_tensorflow_is_loaded(
    line, words, tmp_path, run, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "saved_model.pb").touch()
    write_run(tmp_path / "run", export="teacher", dataset="./nowhere")
    # Whatever would load it fails.
    for name in ("tensorflow", "tf_cutnmix.data", "tf_cutnmix.reporting.runs"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr(tf_cutnmix, "data", raising=False)
    code, out, err = run(*shlex.split(line))
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {words}") or words in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "sweep").exists()


def test_as_a_module_it_is_the_same(tmp_path) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "tf_cutnmix", "trian"], capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr == "error: unknown command 'trian': did you mean 'train'?\n"
