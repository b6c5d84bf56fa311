"""Lower the train step of a run to StableHLO: `python -m benchmarks.gpu.write_bundle --out=DIR`.

TensorFlow and JAX hand StableHLO to the same compiler, so a machine that has JAX for its GPU
and no TensorFlow can train with the very program that TensorFlow would run. A bundle is a
folder with two programs as text (`train_step.mlir`, `eval_step.mlir`), the values of the
variables that they share (`state.npz`) and what their arguments are (`index.json`).
`run_bundle.py` runs it. One bundle is one run: its seed, its schedule and its length are inside.
"""

import dataclasses
import io
import json
import pathlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_cutnmix import command, data, experiment, files
from tf_cutnmix.config import AT_LEAST_1, Config, setting
from tf_cutnmix.distiller import OnlineDistiller
from tf_cutnmix.errors import InputError
from tf_cutnmix.methods import Method

SUMMARY = """\
Lowers the compiled train step of a run, with all that is in it, and an evaluation step to
StableHLO, for run_bundle.py on a machine with a GPU and JAX. Takes every flag of
tf_cutnmix.train; those that say where a run writes mean nothing here. For figures pass
--validation_fraction=0: run_bundle.py trains on a whole pack."""

_ALIASES = re.compile(r"mhlo.input_output_alias = \[(.*?)\](?:, mhlo|\})", re.S)
_ALIAS = re.compile(r"parameter_number = (\d+) : i64\}, output_index = array<i64(?:: (\d+))?>")


@dataclasses.dataclass(frozen=True)
class Settings(Config):
    """The settings of a run and of its bundle.

    Raises:
      InputError: a setting is missing, outside its range, or nothing that XLA can compile.
    """

    out: str = setting("", "bundle", "folder to write; it must not exist or be empty")
    steps_per_call: int = setting(
        1,
        "bundle",
        "training steps that one call of the program makes; it must divide an epoch's steps",
        rule=AT_LEAST_1,
    )
    eval_batch_size: int = setting(
        1000, "bundle", "images per call of the evaluation step", rule=AT_LEAST_1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.out:
            raise InputError("--out is missing: name a folder for the bundle")
        if self.augment != "none":
            raise InputError(f"XLA cannot compile --augment={self.augment}: leave it out")
        if self.method == "kd":
            raise InputError("XLA cannot compile --method=kd: a bundle takes every other method")


class Program(NamedTuple):
    """A function that XLA compiles, and what it is called with.

    Attributes:
      function: of tensors of fixed shapes, to a flat dictionary of tensors.
      inputs: the shapes and dtypes of its arguments.
    """

    function: tf.types.experimental.PolymorphicFunction
    inputs: tuple[tf.TensorSpec, ...]


def main(settings: Settings) -> None:
    """Write the bundle and print what it holds.

    Raises:
      InputError: a setting cannot be used; nothing was written.
    """
    folder = pathlib.Path(settings.out)
    _check(settings, folder)
    train = _training_images(settings)
    steps_per_epoch = len(train.pixels) // settings.batch_size
    _check_steps(settings, steps_per_epoch)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(settings.precision)
    try:
        keras.utils.set_random_seed(settings.seed)
        model = experiment.build_model(settings, train)
        shape = train.pixels.shape[1:]
        programs = {
            "train_step": train_program(
                model, shape, settings.batch_size, steps=settings.steps_per_call
            ),
            "eval_step": eval_program(model, shape, settings.eval_batch_size),
        }
        facts = {
            "batch_size": settings.batch_size,
            "steps_per_call": settings.steps_per_call,
            "steps_per_epoch": steps_per_epoch,
            "epochs": settings.epochs,
            "eval_batch_size": settings.eval_batch_size,
            "train_images": len(train.pixels),
            "class_names": train.class_names,
            "watched": model.watched,
            "flags": dataclasses.asdict(settings),
            "versions": {
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
                "numpy": np.__version__,
            },
        }
        write(folder, model, programs, facts)
    finally:
        keras.config.set_dtype_policy(policy)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {size / 2**20:.1f} MiB, {steps_per_epoch} steps an epoch")


def train_program(
    model: OnlineDistiller, image_shape: Sequence[int], batch_size: int, *, steps: int = 1
) -> Program:
    """The program that makes `steps` training steps.

    From images `[steps * B, H, W, C]` uint8 and labels `[steps * B]` int32, one batch after the
    other, to scalars: the loss, its terms and `region_overlap` as means over these steps
    (float32), `learning_rate` at the first of them, `step`, how many steps were made since the
    start, and `failed_step` and `failed_term`, -1 unless a step was not finite (int64).
    """
    metrics = (*model.loss_metrics, *model.overlap_metrics)
    take_step = tf.autograph.experimental.do_not_convert(model.train_step)

    def train_step(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        # An index into a reshaped tensor has a fixed shape, a slice has not.
        images = tf.reshape(images, [steps, batch_size, *image_shape])
        labels = tf.reshape(labels, [steps, batch_size])
        rate = tf.convert_to_tensor(model.optimizer.learning_rate)
        for metric in metrics:
            metric.reset_state()
        for i in tf.range(steps):
            take_step((images[i], labels[i]))
        return {
            **{metric.name: metric.result() for metric in metrics},
            "learning_rate": rate,
            "step": tf.identity(model.step.value),
            "failed_step": tf.identity(model.failed_step.value),
            "failed_term": tf.identity(model.failed_term.value),
        }

    return _program(train_step, image_shape, steps * batch_size)


def eval_program(model: OnlineDistiller, image_shape: Sequence[int], batch_size: int) -> Program:
    """The program that counts right answers.

    From images `[B, H, W, C]` uint8 and labels `[B]` int32 to an int32 scalar for the teacher,
    the ensemble and each network. A label of -1 counts for nobody.
    """

    def eval_step(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            name: tf.math.count_nonzero(
                tf.equal(tf.argmax(prediction, axis=-1, output_type=tf.int32), labels),
                dtype=tf.int32,
            )
            for name, prediction in model.predict_each(images).items()
        }

    return _program(eval_step, image_shape, batch_size)


def write(
    folder: pathlib.Path,
    model: OnlineDistiller,
    programs: Mapping[str, Program],
    facts: Mapping[str, Any],
) -> None:
    """Lower the programs and write the bundle.

    Args:
      folder: is made if it is missing.
      model: whose variables the programs share.
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
        "variables": {key: [value.shape, value.dtype.name] for key, value in state.items()},
        "programs": entries,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out={folder} cannot be made: {error.strerror}") from error
    for name, text in texts.items():
        files.write(folder / f"{name}.mlir", text.encode())
    content = io.BytesIO()
    np.savez_compressed(content, **state)  # momenta begin as zeros
    files.write(folder / "state.npz", content.getvalue())
    files.write(folder / "index.json", json.dumps(index, indent=1).encode() + b"\n")


def _check(settings: Settings, folder: pathlib.Path) -> None:
    """Refuse what can be refused before the data are read."""
    experiment.check_names(settings)
    method = Method(settings.method)
    method.check_count(len(settings.architectures))
    if method.recipe.held_out:
        raise InputError(
            f"--method={settings.method} learns from held-out images outside its train step: a "
            "bundle cannot hold that"
        )
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"--out={folder} exists and is no empty folder: name another")


def _check_steps(settings: Settings, steps_per_epoch: int) -> None:
    steps = settings.steps_per_call
    if not steps_per_epoch:
        raise InputError(
            f"--batch_size={settings.batch_size} is larger than the training images: lower it"
        )
    if steps_per_epoch % steps:
        divisors = [n for n in range(1, steps_per_epoch + 1) if steps_per_epoch % n == 0]
        near = min(divisors, key=lambda n: abs(n - steps))
        raise InputError(
            f"--steps_per_call={steps} does not divide the {steps_per_epoch} steps of an epoch: "
            f"pass {near}"
        )


def _training_images(settings: Settings) -> data.Images:
    """The images that a run of these settings trains on."""
    images = data.load(
        settings.dataset,
        settings.train_split,
        data_dir=settings.data_dir,
        image_size=settings.image_size,
    )
    return data.hold_out(images, settings.validation_fraction)[0]


def _program(function: Callable, image_shape: Sequence[int], batch_size: int) -> Program:
    images = tf.TensorSpec([batch_size, *image_shape], tf.uint8)
    labels = tf.TensorSpec([batch_size], tf.int32)
    return Program(tf.function(function, jit_compile=True), (images, labels))


def _concrete(program: Program) -> Any:
    return program.function.get_concrete_function(*program.inputs)


def _lower(program: Program) -> str:
    examples = [tf.zeros(spec.shape, spec.dtype) for spec in program.inputs]
    return program.function.experimental_get_compiler_ir(*examples)(stage="stablehlo")


def _variables(model: OnlineDistiller) -> dict[int, tuple[str, keras.Variable]]:
    """By its handle, each variable that a step may use and a name of its own."""
    metrics = [variable for metric in model.metrics for variable in metric.variables]
    variables = [*model.variables, *model.optimizer.variables, *metrics]
    unique = {id(variable.value.handle): variable for variable in variables}
    return {
        handle: (f"{i:05d}:{variable.path}", variable)
        for i, (handle, variable) in enumerate(unique.items())
    }


def _arguments(
    name: str, program: Program, variables: Mapping[int, tuple[str, keras.Variable]]
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


if __name__ == "__main__":
    sys.exit(command.run("benchmarks.gpu.write_bundle", SUMMARY, Settings, main))
