"""Write a bundle: lower its programs to StableHLO, and say what they are called with.

A bundle is a folder with two programs as text (`train_step.mlir`, `eval_step.mlir`), the values
of the variables that they share (`state.npz`), those of runs of further seeds (`state_<seed>.npz`)
and what the programs' arguments are (`index.json`).
"""

import io
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.gpu.programs import Program
from tf_cutnmix import files
from tf_cutnmix.distillation import OnlineDistiller
from tf_cutnmix.errors import InputError

_ALIASES = re.compile(r"mhlo.input_output_alias = \[(.*?)\](?:, mhlo|\})", re.S)
_ALIAS = re.compile(r"parameter_number = (\d+) : i64\}, output_index = array<i64(?:: (\d+))?>")
_COPY = re.compile(r"mhlo\.copy (%\w+) : (tensor<[^>]*>)")


def write(
    folder: pathlib.Path,
    model: OnlineDistiller,
    programs: Mapping[str, Program],
    facts: Mapping[str, Any],
) -> None:
    """Lower the programs and write the bundle.

    Args:
      folder: is made if it is missing.
      model: whose variables the programs share; it is `seeded`.
      programs: by the names of their files.
      facts: what else `index.json` holds.

    Raises:
      ValueError: a program uses a variable that is not the model's or its optimizer's.
    """
    variables = _variables(model)
    texts, entries, state = {}, {}, {}
    for name, program in programs.items():
        arguments = _arguments(name, program, variables)
        state.update(arguments)
        texts[name] = _lower(program)
        entries[name] = {
            "inputs": [[spec.shape.as_list(), spec.dtype.name] for spec in program.inputs],
            "variables": list(arguments),
            "updates": _updates(texts[name], list(arguments), len(program.inputs)),
            "outputs": sorted(_concrete(program).structured_outputs),
        }
    index = {
        **facts,
        "step_variable": variables[id(model.step.value.handle)][0],
        "seed_variable": next((k for k, _ in variables.values() if k.endswith(":seed")), None),
        "variables": {key: [value.shape, value.dtype.name] for key, value in state.items()},
        "programs": entries,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out={folder} cannot be made: {error.strerror}") from error
    for name, text in texts.items():
        files.write(folder / f"{name}.mlir", text.encode())
    _write_state(folder / "state.npz", state)
    files.write(folder / "index.json", json.dumps(index, indent=1).encode() + b"\n")


def write_further(folder: pathlib.Path, model: OnlineDistiller, seed: int) -> None:
    """Write the values of a model of another seed, built and `seeded` as the bundle's own.

    What only the programs know, constants, comes from the bundle's state.
    """
    values = dict(_variables(model).values())
    with np.load(folder / "state.npz") as own:
        state = {key: values[key].numpy() if key in values else own[key] for key in own.files}
    _write_state(folder / f"state_{seed}.npz", state)


def seeded(model: OnlineDistiller, seed: int) -> None:
    """Make the seed of the model's draws a variable, so that one program serves every seed."""
    variable = tf.Variable(seed, dtype=tf.int64, trainable=False, name="seed")
    for layer in (model.augment, model.mixing):
        if layer is not None:
            layer.seed = variable


def _write_state(path: pathlib.Path, state: Mapping[str, np.ndarray]) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, **state)  # momenta begin as zeros
    files.write(path, content.getvalue())


def _concrete(program: Program) -> Any:
    return program.function.get_concrete_function(*program.inputs)


def _lower(program: Program) -> str:
    examples = [tf.zeros(spec.shape, spec.dtype) for spec in program.inputs]
    text = program.function.experimental_get_compiler_ir(*examples)(stage="stablehlo")
    # JAX's GPU compiler knows no copy of TensorFlow's; a reshape to the same shape is dropped.
    return _COPY.sub(r"stablehlo.reshape \1 : (\2) -> \2", text)


def _variables(model: OnlineDistiller) -> dict[int, tuple[str, tf.Variable]]:
    """By its handle, each variable that a step may use and a name of its own."""
    metrics = [variable for metric in model.metrics for variable in metric.variables]
    variables = [*model.variables, *model.optimizer.variables, *metrics]
    named = [(variable.path, variable.value) for variable in variables]
    named += [("seed", layer.seed) for layer in (model.augment, model.mixing) if layer is not None]
    unique = {id(value.handle): (path, value) for path, value in named}
    return {
        handle: (f"{i:05d}:{path}", value)
        for i, (handle, (path, value)) in enumerate(unique.items())
    }


def _arguments(
    name: str, program: Program, variables: Mapping[int, tuple[str, tf.Variable]]
) -> dict[str, np.ndarray]:
    """What follows a program's inputs: by name, the values of the variables and constants."""
    arguments = {}
    for position, capture in enumerate(_concrete(program).captured_inputs):
        if id(capture) in variables:
            key, variable = variables[id(capture)]
            arguments[key] = variable.numpy()
        elif capture.dtype == tf.resource:
            raise ValueError(f"{name} uses a variable that is not the model's: {capture}")
        else:
            arguments[f"constant:{name}:{position}"] = capture.numpy()
    return arguments


def _updates(text: str, arguments: Sequence[str], num_inputs: int) -> dict[str, str]:
    """By the position of an output, the variable whose new value it is."""
    aliases = _ALIASES.search(text)
    return {
        output or "0": arguments[int(parameter) - num_inputs]
        for parameter, output in _ALIAS.findall(aliases.group(1) if aliases else "")
    }
