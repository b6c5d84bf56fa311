"""Commands: flags, help, and errors that are one line."""

import dataclasses
import errno
import importlib
import os
import pathlib
import re
import shlex
import signal
import sys
from collections.abc import Callable

import pytest

from tests.processes import python
from tf_cutnmix import command, evaluate, export, predict, report, sweep
from tf_cutnmix.distillation.method import METHODS
from tf_cutnmix.errors import DivergenceError, InputError, Interrupted
from tf_cutnmix.runs.config import Config
from tf_cutnmix.settings import setting

COMMANDS = {
    "tf_cutnmix.train": Config,
    "tf_cutnmix.evaluate": evaluate.Settings,
    "tf_cutnmix.predict": predict.Settings,
    "tf_cutnmix.export": export.Settings,
    "tf_cutnmix.report": report.Settings,
    "tf_cutnmix.sweep": sweep.Settings,
}


@dataclasses.dataclass(frozen=True)
class Lists:
    """Settings that hold several texts."""

    runs: tuple[str, ...] = setting((), "input", "folders of runs", positional=True)
    out: str = setting("report", "output", "where to write")
    plot: tuple[str, ...] = setting(("curves",), "output", "what to plot")


def parse(*arguments: str) -> Config:
    return command.parse(Config, arguments)


@pytest.fixture
def run_in_process(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs `main` as the command train on arguments."""

    def run(main: Callable[[Config], None], *arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        return command.run("tf_cutnmix.train", "Trains.", Config, main)

    return run


def raising(error: BaseException) -> Callable[[Config], None]:
    def main(config: Config) -> None:
        raise error

    return main


# Flags


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ([], {}),  # nor does anything come from another call
        (["--epochs=3"], {"epochs": 3}),
        (["-epochs=3"], {"epochs": 3}),
        (["--epochs", "3", "--mix", "mixup"], {"epochs": 3, "mix": "mixup"}),
        (["--alpha=2", "--weight_decay=1e-4"], {"alpha": 2.0, "weight_decay": 1e-4}),
        (["--num_peers=3"], {"num_peers": 3}),
        (["--dataset=my pets", "--export="], {"dataset": "my pets", "export": ""}),
        (["--ramp=fit"], {"ramp": "fit"}),
        (["--ramp=0.5"], {"ramp": 0.5}),
        (["--resume=true", "--nooverwrite"], {"resume": True}),
        (["--resume", "--epochs=3", "--epochs=5", "--noresume"], {"epochs": 5}),
    ],
)
def test_a_flag_sets_its_setting_and_the_last_one_counts(arguments, settings) -> None:
    config = parse(*arguments)
    assert config == dataclasses.replace(Config(), **settings)
    for name, value in settings.items():
        assert type(getattr(config, name)) is type(value)


def test_every_setting_is_a_flag() -> None:
    for field in dataclasses.fields(Config):
        choice = next(
            iter(field.metadata["choices"]), 0.5 if field.type in (float, float | None) else 1
        )
        value = choice if field.default is None else field.default
        expected = dataclasses.replace(Config(), **{field.name: value})
        assert parse(f"--{field.name}={value}") == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epoch=3"], ["'epoch'", "epochs"]),
        (["--batchsize=3"], ["batchsize", "batch_size"]),
        (["--epochs=many"], ["epochs", "many"]),
        (["--num_peers="], ["num_peers"]),
        (["--resume=maybe"], ["resume", "maybe"]),
        (["--jit=maybe"], ["jit", "maybe", "auto", "on", "off"]),
        (["--alpha"], ["alpha"]),
        (["--alpha=nan"], ["--alpha=nan", "above 0"]),
        (["--noepochs"], ["noepochs"]),
        (["--epochs=3", "stray", "--alpha=2"], ["stray"]),
        (["--resume", "true"], ["true"]),
        (["--flagfile=nowhere.cfg"], ["nowhere.cfg"]),
    ],
)
def test_what_cannot_be_used_is_named_in_a_line_for_a_person(arguments, words) -> None:
    with pytest.raises(InputError) as caught:
        parse(*arguments)
    message = str(caught.value)
    assert all(word in message for word in words)
    assert not any(sign in message for sign in ("\n", "ERROR:", "('"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], Lists()),
        (["--plot=a,b", "--plot=c"], Lists(plot=("a,b", "c"))),
        (["a", "--out=x", "b/c", "--plot=c"], Lists(("a", "b/c"), "x", ("c",))),
        (["--out=x", "--", "--odd"], Lists(("--odd",), "x")),
    ],
)
def test_a_flag_may_be_repeated_and_arguments_stand_anywhere(arguments, expected) -> None:
    assert command.parse(Lists, arguments) == expected


def test_a_flagfile_holds_flags_and_comments_and_stands_where_it_is_named(tmp_path) -> None:
    path = tmp_path / "flags.cfg"
    path.write_text("# A comment\n\n--epochs=7\n--mix=mixup\n--resume\n")
    assert parse(f"--flagfile={path}") == Config(epochs=7, mix="mixup", resume=True)
    later = parse(f"--flagfile={path}", "--epochs=9", "--noresume")
    assert later == Config(epochs=9, mix="mixup")
    assert parse("--epochs=9", "--seed=3", f"--flagfile={path}").epochs == 7
    path.write_text("--epoch=7\n")
    with pytest.raises(InputError, match="epoch"):
        parse(f"--flagfile={path}")
    path.write_text("--plot=a\n--plot=b\n")
    lists = command.parse(Lists, [f"--flagfile={path}", "--plot=c", "d"])
    assert lists == Lists(runs=("d",), plot=("a", "b", "c"))
    with pytest.raises(InputError, match="runs"):
        command.parse(Lists, ["--runs=a"])  # arguments have no flag of their own


# Help


@pytest.mark.parametrize("module", COMMANDS)
def test_help_names_every_flag_once_and_its_examples_are_understood(module: str) -> None:
    summary = importlib.import_module(module).SUMMARY
    text = command.help_text(module, summary, COMMANDS[module])
    flags = re.findall(r"^  --(?:\[no\])?(\w+)", text, flags=re.MULTILINE)
    fields = dataclasses.fields(COMMANDS[module])
    own = [field.name for field in fields if not field.metadata["positional"]]
    assert sorted(flags) == sorted([*own, "flagfile", "help"])
    assert summary in text
    examples = re.findall(rf"^  python -m {module} (.*)$", summary, flags=re.MULTILINE)
    assert examples
    for example in examples:
        arguments = [a for a in shlex.split(example) if not a.startswith("--flagfile=")]
        command.parse(COMMANDS[module], arguments)


def test_help_shows_groups_choices_defaults_methods_and_arguments() -> None:
    lines = command.help_text("tf_cutnmix.train", "", Config)
    groups = re.findall(r"^(\w+):$", lines, flags=re.MULTILINE)
    assert groups == ["data", "model", "mixing", "distillation", "optimisation", "run"]
    text = " ".join(lines.split())
    for words in (
        "--epochs passes over the training data (default: 300; from weights 30)",
        "--schedule=step|cosine|constant step:",
        "--[no]resume go on with",
        "--num_peers networks trained together",
    ):
        assert words in text
    (methods,) = re.findall(r"how peers learn from each other: (.*); independent: not at all", text)
    assert sorted(methods.split(", ")) == sorted(METHODS)
    text = " ".join(command.help_text("tf_cutnmix.report", "It reports.", Lists).split())
    assert text.startswith(
        "usage: python -m tf_cutnmix.report RUNS ... [--flag=value ...] [--flagfile=FILE]"
    )
    assert "input: RUNS ... folders of runs output:" in text
    assert "--plot what to plot (may be given several times) (default: curves)" in text


@pytest.mark.parametrize("module", COMMANDS)
def test_help_is_printed_without_waiting_for_tensorflow(module: str, tmp_path) -> None:
    arguments = ("-X", "importtime", "-m", module, "--epochs=bad", "--help")
    process = python(*arguments, cwd=tmp_path)
    assert process.returncode == 0
    assert process.stdout.startswith(f"usage: python -m {module} ")
    assert re.search(r"\| +absl", process.stderr)
    assert not re.search(
        r"\| +(tensorflow|keras|numpy|sklearn|scipy|pandas|matplotlib|jinja2)\b", process.stderr
    )
    assert not list(tmp_path.iterdir())


# Exit codes


def test_a_bad_flag_ends_a_process_in_one_line(tmp_path: pathlib.Path) -> None:
    process = python("-m", "tf_cutnmix.train", "--epoch=3", cwd=tmp_path)
    assert process.returncode == 1
    assert process.stdout == ""
    assert re.fullmatch(r"error: [^\n]+\n", process.stderr)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("no such thing"), 1, "error: no such thing\n"),
        (DivergenceError("the loss is nan"), 1, "error: the loss is nan\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "error: No space left on device\n"),
        (OSError(errno.ENOSPC, "No space left", "x"), 1, "error: x: No space left\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (Interrupted(signal.SIGTERM, "it is saved"), 143, "it is saved\n"),
    ],
)
def test_an_expected_end_is_one_line_and_an_exit_code(
    error, code, line, run_in_process, capsys
) -> None:
    assert run_in_process(raising(error)) == code
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), OSError("a bug")])
def test_a_bug_keeps_its_traceback(error, run_in_process) -> None:
    with pytest.raises(type(error), match="a bug"):
        run_in_process(raising(error))


# TensorFlow's greetings


def test_what_is_printed_while_tensorflow_loads_is_held_back_unless_it_fails(capfd) -> None:
    with command.quiet_tensorflow():
        import tensorflow  # noqa: F401

        os.write(2, b"greetings")
    os.write(2, b"news")
    assert capfd.readouterr().err == "news"

    def load(error: BaseException) -> None:
        with command.quiet_tensorflow():
            os.write(2, b"the reason")
            raise error

    with pytest.raises(ImportError):
        load(ImportError())
    os.write(2, b", and more")
    assert capfd.readouterr().err == "the reason, and more"
    with pytest.raises(Interrupted):
        load(Interrupted(signal.SIGINT))
    assert capfd.readouterr().err == ""


def test_devices_are_not_looked_for_where_another_process_imports_tensorflow(tmp_path) -> None:
    code = (
        "import sys; from tf_cutnmix import command\n"
        "with command.quiet_tensorflow(find_devices=False): pass\n"
        "print('tensorflow' in sys.modules)"
    )
    assert python("-c", code, cwd=tmp_path).stdout == "False\n"
