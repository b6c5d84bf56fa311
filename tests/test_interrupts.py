"""Signals: kept where they would do harm, raised where they do none; a second one always ends."""

import pathlib
import signal
import sys
import textwrap
import types

import pytest

from tests.processes import python
from tf_cutnmix.errors import Interrupted
from tf_cutnmix.interrupts import Interrupts

CALLS = {
    "a loop": lambda call: [call(k) for k in range(3)],
    "a callback": lambda call: call(0, lambda: None),
    "a call that fails": lambda call: call(-1),
}


def library(name: str) -> types.ModuleType:
    """A module that gets a signal in its second call, and takes what that raises for its own."""
    module = types.ModuleType(name)
    code = """
        def call(number, function=None):
            done.append(number)
            try:
                if number <= 1:
                    signal.raise_signal(signal.SIGTERM)
                if function:
                    function()
            except BaseException as error:
                raise ValueError("a fault of its own") from error
            if number < 0:
                raise ValueError("it has failed")
    """
    vars(module).update(signal=signal, done=[])
    exec(textwrap.dedent(code), vars(module))
    return module


@pytest.mark.parametrize("kind", CALLS)
def test_within_tensorflow_a_signal_is_raised_when_the_call_returns(kind):
    tensorflow = library("tensorflow.python.util.nest")
    with pytest.raises(Interrupted) as caught, Interrupts(raised=True) as interrupts:
        CALLS[kind](tensorflow.call)
    assert caught.value.number == interrupts.number == signal.SIGTERM
    assert len(tensorflow.done) == 1
    assert sys.gettrace() is None


def test_elsewhere_it_is_raised_at_once():
    with pytest.raises(ValueError, match="of its own") as caught, Interrupts(raised=True):
        library("json").call(0)
    assert isinstance(caught.value.__cause__, Interrupted)


def test_where_it_is_only_noted_nothing_is_raised_and_the_second_one_does_what_it_did_before():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGTERM)
            assert (interrupts.number, seen) == (signal.SIGTERM, [])
            signal.raise_signal(signal.SIGTERM)
        assert seen == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts(raised=True) as interrupts:
            signal.raise_signal(signal.SIGINT)
        assert interrupts.number is None
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("noted", [False, True])
def test_a_second_signal_ends_a_command_whatever_it_does(number, noted):
    code = f"""
        import contextlib, signal
        from tf_cutnmix.interrupts import Interrupts
        signal.signal({number:d}, signal.default_int_handler)
        signals = compile("for _ in range(9): signal.raise_signal({number:d})", "", "exec")
        with Interrupts(raised=True), Interrupts() if {noted} else contextlib.nullcontext():
            exec(signals, {{"__name__": "tensorflow", "signal": signal}})
    """
    root = pathlib.Path(__file__).parents[1]
    process = python("-c", textwrap.dedent(code), cwd=root)
    assert (process.returncode, process.stderr) == (-number, "")
