"""Commands: flags, help, and errors that are one line."""

import dataclasses
import errno
import importlib
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time

import pytest

from tf_cutnmix import command, evaluate, export, predict, report, sweep
from tf_cutnmix.errors import DivergenceError, InputError
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


def refusal(*arguments: str) -> str:
    """The message with which arguments are refused: one line for a person to read."""
    with pytest.raises(InputError) as caught:
        parse(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert "ERROR:" not in message
    assert "('" not in message
    return message


def run_module(*arguments: str, cwd: pathlib.Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def run_in_process(monkeypatch: pytest.MonkeyPatch, main: object, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    return command.run("tf_cutnmix.train", "Trains.", Config, main)


def raising(error: BaseException) -> object:
    def main(config: Config) -> None:
        raise error

    return main


# Flags


def test_without_arguments_every_setting_has_its_default() -> None:
    assert parse() == Config()


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("--epochs=3", "epochs", 3),
        ("--alpha=2", "alpha", 2.0),
        ("--weight_decay=1e-4", "weight_decay", 1e-4),
        ("--num_peers=3", "num_peers", 3),
        ("--dataset=my pets", "dataset", "my pets"),
        ("--export=", "export", ""),
        ("--train_split=train[:50%]", "train_split", "train[:50%]"),
        ("--schedule=cosine", "schedule", "cosine"),
        ("--resume", "resume", True),
        ("--resume=true", "resume", True),
        ("--noresume", "resume", False),
        ("--overwrite", "overwrite", True),
        ("--nooverwrite", "overwrite", False),
        ("-epochs=3", "epochs", 3),
    ],
)
def test_a_flag_sets_its_setting(argument: str, name: str, value: object) -> None:
    config = parse(argument)
    assert config == dataclasses.replace(Config(), **{name: value})
    assert type(getattr(config, name)) is type(value)


def test_a_value_may_follow_its_flag() -> None:
    assert parse("--epochs", "3", "--mix", "mixup") == Config(epochs=3, mix="mixup")


def test_the_last_of_two_flags_counts() -> None:
    assert parse("--resume", "--epochs=3", "--epochs=5", "--noresume") == Config(epochs=5)


def test_flags_of_one_call_do_not_reach_the_next() -> None:
    parse("--epochs=3")
    assert parse() == Config()


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Config)])
def test_every_setting_is_a_flag(name: str) -> None:
    default = getattr(Config(), name)
    value = 1 if default is None else default
    assert parse(f"--{name}={value}") == dataclasses.replace(Config(), **{name: value})


@pytest.mark.parametrize(
    ("argument", "suggestion"),
    [("--epoch=3", "epochs"), ("--batchsize=3", "batch_size"), ("--resum", "resume")],
)
def test_an_unknown_flag_gets_a_suggestion(argument: str, suggestion: str) -> None:
    message = refusal(argument)
    assert argument.removeprefix("--").split("=")[0] in message
    assert suggestion in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--epochs=many"], ["epochs", "many"]),
        (["--epochs=1.5"], ["epochs", "1.5"]),
        (["--alpha=x"], ["alpha", "x"]),
        (["--num_peers="], ["num_peers"]),
        (["--resume=maybe"], ["resume", "maybe"]),
        (["--jit=maybe"], ["jit", "maybe", "auto", "on", "off"]),
        (["--alpha"], ["alpha"]),
        (["--alpha=nan"], ["--alpha=nan", "above 0"]),
        (["--noepochs"], ["noepochs"]),
        (["stray"], ["stray"]),
        (["--epochs=3", "stray", "--alpha=2"], ["stray"]),
        (["--resume", "true"], ["true"]),
        (["--flagfile=nowhere.cfg"], ["nowhere.cfg"]),
    ],
)
def test_what_cannot_be_used_is_named(arguments: list[str], words: list[str]) -> None:
    message = refusal(*arguments)
    for word in words:
        assert word in message


# Settings that hold several texts


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], Lists()),
        (["--plot=bars"], Lists(plot=("bars",))),
        (["--plot=a,b", "--plot=c"], Lists(plot=("a,b", "c"))),
        (["a", "b/c"], Lists(runs=("a", "b/c"))),
        (["a", "--out=x", "b", "--plot=c"], Lists(("a", "b"), "x", ("c",))),
        (["--out=x", "--", "--odd"], Lists(("--odd",), "x")),
    ],
)
def test_a_flag_may_be_repeated_and_arguments_stand_anywhere(
    arguments: list[str], expected: Lists
) -> None:
    assert command.parse(Lists, arguments) == expected


def test_a_flag_repeated_in_a_flagfile_and_after_it_adds_up(tmp_path: pathlib.Path) -> None:
    (tmp_path / "flags.cfg").write_text("--plot=a\n--plot=b\n")
    parsed = command.parse(Lists, [f"--flagfile={tmp_path}/flags.cfg", "--plot=c", "d"])
    assert parsed == Lists(runs=("d",), plot=("a", "b", "c"))


def test_arguments_have_no_flag_of_their_own() -> None:
    with pytest.raises(InputError, match="runs"):
        command.parse(Lists, ["--runs=a"])


def test_help_shows_arguments_and_repeated_flags() -> None:
    lines = command.help_text("tf_cutnmix.report", "It reports.", Lists).splitlines()
    assert (
        lines[0]
        == "usage: python -m tf_cutnmix.report RUNS ... [--flag=value ...] [--flagfile=FILE]"
    )
    text = " ".join(" ".join(lines).split())
    assert "input: RUNS ... folders of runs output:" in text
    assert "--plot what to plot (may be given several times) (default: curves)" in text


# Flagfiles


@pytest.fixture
def flagfile(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "flags.cfg"
    path.write_text("# A comment\n\n--epochs=7\n--mix=mixup\n--resume\n")
    return f"--flagfile={path}"


def test_a_flagfile_holds_flags_and_comments(flagfile: str) -> None:
    assert parse(flagfile) == Config(epochs=7, mix="mixup", resume=True)


def test_a_later_flag_overrides_the_flagfile(flagfile: str) -> None:
    config = parse(flagfile, "--epochs=9", "--noresume")
    assert config == Config(epochs=9, mix="mixup")


def test_a_flagfile_overrides_an_earlier_flag(flagfile: str) -> None:
    assert parse("--epochs=9", "--seed=3", flagfile).epochs == 7


def test_an_unknown_flag_in_a_flagfile_is_named(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "flags.cfg"
    path.write_text("--epoch=7\n")
    assert "epoch" in refusal(f"--flagfile={path}")


# Help


@pytest.mark.parametrize("module", COMMANDS)
def test_help_names_every_flag_once(module: str) -> None:
    text = command.help_text(module, "It does things.", COMMANDS[module])
    flags = re.findall(r"^  --(?:\[no\])?(\w+)", text, flags=re.MULTILINE)
    fields = dataclasses.fields(COMMANDS[module])
    own = [field.name for field in fields if not field.metadata["positional"]]
    assert sorted(flags) == sorted([*own, "flagfile", "help"])
    assert "It does things." in text
    assert f"python -m {module}" in text


def test_help_has_its_groups_in_the_order_of_a_run() -> None:
    text = command.help_text("tf_cutnmix.train", "", Config)
    groups = re.findall(r"^(\w+):$", text, flags=re.MULTILINE)
    assert groups == ["data", "model", "mixing", "distillation", "optimisation", "run"]
    assert text[text.index("\nrun:") :].count("every command:") == 1


@pytest.mark.parametrize("module", COMMANDS)
def test_what_help_shows_as_an_example_is_understood(module: str) -> None:
    summary = importlib.import_module(module).SUMMARY
    examples = re.findall(rf"^  python -m {module} (.*)$", summary, flags=re.MULTILINE)
    assert examples
    for example in examples:
        arguments = [a for a in shlex.split(example) if not a.startswith("--flagfile=")]
        command.parse(COMMANDS[module], arguments)


@pytest.mark.parametrize(
    "words",
    [
        "--epochs passes over the training data (default: 300)",
        "--schedule=step|cosine|constant step:",
        "--[no]resume go on with",
        "--num_peers networks trained together",
    ],
)
def test_help_shows_choices_and_defaults(words: str) -> None:
    text = " ".join(command.help_text("tf_cutnmix.train", "", Config).split())
    assert words in text


@pytest.mark.parametrize("module", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h", "--helpfull"])
def test_help_is_printed_and_succeeds(module: str, flag: str, tmp_path: pathlib.Path) -> None:
    process = run_module("-m", module, "--epochs=bad", flag, cwd=tmp_path)
    assert process.returncode == 0
    assert process.stderr == ""
    assert process.stdout.startswith(f"usage: python -m {module} ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module", ["tf_cutnmix.train", "tf_cutnmix.export", "tf_cutnmix.sweep"])
def test_help_does_not_wait_for_tensorflow(module: str, tmp_path: pathlib.Path) -> None:
    arguments = ("-X", "importtime", "-m", module, "--help")
    imported = run_module(*arguments, cwd=tmp_path).stderr
    assert re.search(r"\| +absl", imported)
    assert not re.search(r"\| +(tensorflow|keras|numpy|sklearn)\b", imported)


def test_help_takes_less_than_a_second(tmp_path: pathlib.Path) -> None:
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        run_module("-m", "tf_cutnmix.train", "--help", cwd=tmp_path)
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 1.0


# Exit codes


@pytest.mark.parametrize("module", COMMANDS)
@pytest.mark.parametrize(
    "argument", ["--epoch=3", "--batch_size=0", "--batch_size=x", "stray", "--flagfile=nowhere.cfg"]
)
def test_a_bad_flag_ends_in_one_line(module: str, argument: str, tmp_path: pathlib.Path) -> None:
    process = run_module("-m", module, argument, cwd=tmp_path)
    assert process.returncode == 1
    assert process.stdout == ""
    assert re.fullmatch(r"error: [^\n]+\n", process.stderr)
    assert not list(tmp_path.iterdir())


def test_main_gets_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    assert run_in_process(monkeypatch, seen.append, "--epochs=3") == 0
    assert seen == [Config(epochs=3)]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("no such thing"), 1, "error: no such thing\n"),
        (DivergenceError("the loss is nan"), 1, "error: the loss is nan\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_an_expected_end_is_one_line_and_an_exit_code(
    error: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_in_process(monkeypatch, raising(error)) == code
    assert capsys.readouterr() == ("", line)


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        run_in_process(monkeypatch, raising(ZeroDivisionError()))


# TensorFlow's greetings


def test_devices_are_not_looked_for_where_another_process_imports_tensorflow(
    tmp_path: pathlib.Path,
) -> None:
    code = (
        "import sys; from tf_cutnmix import command\n"
        "with command.quiet_tensorflow(find_devices=False): pass\n"
        "print('tensorflow' in sys.modules)"
    )
    assert run_module("-c", code, cwd=tmp_path).stdout == "False\n"


def test_what_is_printed_while_tensorflow_loads_is_held_back(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with command.quiet_tensorflow():
        import tensorflow  # noqa: F401

        os.write(2, b"greetings")
    os.write(2, b"news")
    assert capfd.readouterr().err == "news"


def test_what_was_held_back_is_shown_if_loading_fails(capfd: pytest.CaptureFixture[str]) -> None:
    def load() -> None:
        with command.quiet_tensorflow():
            os.write(2, b"the reason")
            raise ImportError

    with pytest.raises(ImportError):
        load()
    os.write(2, b", and more")
    assert capfd.readouterr().err == "the reason, and more"


def test_an_error_of_the_system_without_a_file_says_what_it_is(monkeypatch, capsys):
    def fail(error: OSError) -> int:
        def main(settings: object) -> None:
            raise error

        monkeypatch.setattr(sys, "argv", ["train"])
        return command.run("tf_cutnmix.train", "", Config, main)

    assert fail(OSError(errno.ENOSPC, "No space left on device")) == 1
    assert capsys.readouterr().err == "error: No space left on device\n"
    with pytest.raises(OSError, match="what nobody foresaw"):
        fail(OSError("what nobody foresaw"))
