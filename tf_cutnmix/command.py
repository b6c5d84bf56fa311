"""What the commands share: flags from a dataclass of settings, help, errors as one line."""

import contextlib
import dataclasses
import functools
import io
import operator
import os
import pathlib
import re
import signal
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import flags

from tf_cutnmix import keras_choices, output
from tf_cutnmix.errors import InputError, Interrupted, RunError, unknown
from tf_cutnmix.interrupts import Interrupts

HELP = ("-h", "-help", "--help", "--helpfull", "--helpshort")
_OF_EVERY_COMMAND = {
    "--flagfile": "file of flags, one a line, such as a run's flags.cfg; of a flag that is there "
    "twice the last one counts",
    "--help": "print this and do nothing",
}


def run(
    name: str,
    summary: str,
    settings: type,
    main: Callable[[Any], None],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a command; its exit code.

    Args:
      name: of the module, for the help text.
      summary: what the command does.
      settings: a dataclass whose fields are made with `settings.setting`.
      main: is called with the settings.
      arguments: of the command line; by default those of `sys.argv`.
    """
    given = sys.argv[1:] if arguments is None else arguments

    def act() -> None:
        if any(argument in HELP for argument in given):
            print(help_text(name, summary, settings))
        else:
            with Interrupts(raised=True):
                main(parse(settings, given))

    return ending(act)


def ending(act: Callable[[], None]) -> int:
    """Act, and have what ends it printed as one line; the exit code."""
    output.open_what_is_closed()
    try:
        act()
        sys.stdout.flush()
    except RunError as error:
        return _ended(f"error: {error}", 1)
    except BrokenPipeError:
        return _ended("", 128 + signal.SIGPIPE)
    except OSError as error:
        # Of a place that nobody foresaw: a name too long, a disk that is full or gone.
        if not error.strerror:
            raise
        place = f"{str(error.filename)[:200]}: " if error.filename else ""
        return _ended(f"error: {place}{error.strerror}", 1)
    except Interrupted as interrupt:
        return _ended(str(interrupt), 128 + interrupt.number)
    except KeyboardInterrupt:
        return _ended("interrupted", 128 + signal.SIGINT)
    return 0


def _ended(words: str, code: int) -> int:
    """The exit code, when the reason is printed and no stream is left to fail at Python's end."""
    for stream, text in ((sys.stdout, ""), (sys.stderr, words)):
        try:
            print(text, end="\n" if text else "", file=stream, flush=True)
        except OSError:
            output.drop(stream)
    return code


def parse(settings: type, arguments: Sequence[str]) -> Any:
    """An instance of `settings` from command-line arguments; `--flagfile=FILE` is understood.

    Raises:
      InputError: an argument is unknown or has no allowed value.
    """
    values = flags.FlagValues()
    defined = [f for f in dataclasses.fields(settings) if not f.metadata["positional"]]
    for field in defined:
        _define(field, values)
    try:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            rest = values(["", *arguments])[1:]
    except flags.UnrecognizedFlagError as error:
        names = ["flagfile", "help", *(name for f in defined for name in _names(f))]
        raise unknown("flag", error.flagname, names, "--help lists all") from error
    except (flags.Error, ValueError) as error:
        raise InputError(_plain(error)) from error
    if said.getvalue():  # of flagfiles that name each other
        raise InputError(" ".join(said.getvalue().split()))
    positional = [field.name for field in _positional(settings)]
    if rest and not positional:
        raise InputError(f"unexpected argument {rest[0]!r}: flags begin with --")
    parsed = {f.name: values[f.name].value for f in defined} | dict.fromkeys(positional, rest)
    for name, value in parsed.items():
        if not _is_text(str(value)):
            raise InputError(f"--{name}={value!a} is no text: pass UTF-8 without zeros")
    return settings(**{k: tuple(v) if isinstance(v, list) else v for k, v in parsed.items()})


def read(settings: type, path: pathlib.Path) -> Any:
    """An instance of `settings` from a file, whoever wrote it: no other file is read.

    A line `--name=value` sets a setting. All else, such as the flags of another version, is text.

    Raises:
      InputError: a setting has no allowed value, or the file is no text or names another one.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"it cannot be read: {error}") from error
    if any(line.lstrip("-").startswith("flagfile") for line in lines):
        raise InputError("it names another file of flags")
    known = tuple(f"--{field.name}=" for field in dataclasses.fields(settings))
    return parse(settings, [line for line in lines if line.startswith(known)])


def help_text(name: str, summary: str, settings: type) -> str:
    """The flags with their defaults, grouped as the settings are."""
    fields = dataclasses.fields(settings)
    arguments = "".join(f"{field.name.upper()} ... " for field in _positional(settings))
    usage = f"usage: python -m {name} {arguments}[--flag=value ...] [--flagfile=FILE]"
    lines = [usage, "", summary]
    for group in dict.fromkeys(field.metadata["group"] for field in fields):
        lines += ["", f"{group}:"]
        for field in fields:
            if field.metadata["group"] == group:
                lines += _help_lines(field)
    lines += ["", "every command:"]
    for flag, text in _OF_EVERY_COMMAND.items():
        lines += _under_each_other(flag, text)
    return "\n".join(lines)


@contextlib.contextmanager
def quiet_tensorflow(find_devices: bool = True, log: bool = False) -> Iterator[None]:
    """Import TensorFlow in this context without the greetings that no setting turns off.

    What is printed to stderr meanwhile is shown only if the import fails. With `find_devices`
    the devices are looked for at once, as this too is announced. Without, another process
    that shares stderr may do the importing. If it takes long, a terminal is told so, and with
    `log` whatever stdout is.

    Raises:
      InputError: Keras is told, in its own places, what this package cannot do.
    """
    keras_choices.check()
    # What ends a command is an exception too; what is only printed as an error ends none.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    said = ""
    shown = output.waiting("loading TensorFlow", 1 if log else 2)
    waiting = shown if log or sys.stderr.isatty() else contextlib.nullcontext()
    try:
        with waiting, output.held_back() as held:
            try:
                yield
                if find_devices:
                    sys.modules["tensorflow"].config.list_physical_devices()
            except Exception:  # who interrupts it has no use for them
                held.seek(0)
                said = held.read()
                raise
    finally:
        if said:  # a full device refuses even nothing
            os.write(2, said.encode())


def _plain(error: Exception) -> str:
    """absl's message without the marks of its making."""
    message = str(error).removeprefix("ERROR:: ").removeprefix("flag ")
    return re.sub(r"\('(.*)', '(.*)'\)$", r"\1", message)


def _is_text(argument: str) -> bool:
    """Whether it can name a file and be written down: other bytes come as lone surrogates."""
    return not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in argument)


def _positional(settings: type) -> list[dataclasses.Field]:
    return [field for field in dataclasses.fields(settings) if field.metadata["positional"]]


class _Number(flags.ArgumentParser):
    """A number of a kind, or what it must be in words."""

    def __init__(self, kind: Callable[[Any], float], words: str) -> None:
        super().__init__()
        self.kind, self.words = kind, words

    def parse(self, argument: Any) -> float:
        try:
            return self.kind(argument)
        except ValueError:
            raise ValueError(f"must be {self.words}") from None


class _NumberOrWord(flags.ArgumentParser):
    """A number of a kind where the text is one, else the text."""

    def __init__(self, kind: Callable[[Any], float]) -> None:
        super().__init__()
        self.kind = kind

    def parse(self, argument: Any) -> float | str:
        try:
            return self.kind(argument)
        except ValueError:
            return str(argument)


def _define(field: dataclasses.Field, values: flags.FlagValues) -> None:
    options: Any = {"name": field.name, "default": field.default, "help": "", "flag_values": values}
    kind = _kind(field)
    if field.metadata["choices"]:
        flags.DEFINE_enum(enum_values=list(field.metadata["choices"]), **options)
        return
    if kind in (int, float):
        rule = field.metadata["rule"]
        words = rule.words if rule else "a whole number" if kind is int else "a number"
        flags.DEFINE(_Number(kind, words), **options)
    else:
        define: dict[Any, Callable[..., object]] = {
            float | str: functools.partial(flags.DEFINE, _NumberOrWord(float)),
            int | str: functools.partial(flags.DEFINE, _NumberOrWord(int)),
            bool: flags.DEFINE_bool,
            str: flags.DEFINE_string,
            tuple: flags.DEFINE_multi_string,
        }
        define[kind](**options)


def _names(field: dataclasses.Field) -> tuple[str, ...]:
    """What a flag is called on the command line."""
    return (field.name, f"no{field.name}") if _kind(field) is bool else (field.name,)


def _kind(field: dataclasses.Field) -> Any:
    if isinstance(field.type, types.UnionType):
        kinds = [t for t in typing.get_args(field.type) if t is not types.NoneType]
        return functools.reduce(operator.or_, kinds)
    return typing.get_origin(field.type) or field.type


def _help_lines(field: dataclasses.Field) -> list[str]:
    choices = "|".join(field.metadata["choices"])
    flag = f"--[no]{field.name}" if _kind(field) is bool else f"--{field.name}"
    flag = f"{flag}={choices}" if choices else flag
    flag = f"{field.name.upper()} ..." if field.metadata["positional"] else flag
    text, default = field.metadata["help"], field.default
    if _kind(field) is tuple and not field.metadata["positional"]:
        text = f"{text} (may be given several times)"
    if default not in ("", None, ()) and _kind(field) is not bool:
        shown = " ".join(default) if isinstance(default, tuple) else default
        text = f"{text} (default: {shown})"
    return _under_each_other(flag, text)


def _under_each_other(flag: str, text: str) -> list[str]:
    body = [" " * 24 + line for line in textwrap.wrap(text, width=66)]
    if len(flag) < 22:
        return [f"  {flag:<22}{body[0].strip()}", *body[1:]]
    return [f"  {flag}", *body]
