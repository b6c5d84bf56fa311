"""Lower the train step of a run to StableHLO: `python -m benchmarks.gpu.write_bundle --out=DIR`.

TensorFlow and JAX hand StableHLO to the same compiler, so a machine that has JAX for its GPU
and no TensorFlow can train with the very program that TensorFlow would run. What is lowered
stands in programs.py, what a bundle holds in bundles.py; `run_bundle` runs it. A bundle's schedule
and its length are inside; its seed is among its variables, so one serves runs of several seeds.
"""

import dataclasses
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

from benchmarks.gpu import bundles
from benchmarks.gpu.programs import eval_program, train_program
from tf_cutnmix import command, data
from tf_cutnmix.distillation import OnlineDistiller
from tf_cutnmix.distillation.method import Method
from tf_cutnmix.errors import InputError
from tf_cutnmix.runs import build, cost
from tf_cutnmix.runs.config import Config
from tf_cutnmix.runs.loading import Splits
from tf_cutnmix.runs.plan import Plan, resolve
from tf_cutnmix.settings import AT_LEAST_1, SEED, setting, split_names

SUMMARY = """\
Lowers the compiled train step of a run, with all that is in it, and an evaluation step to
StableHLO, for run_bundle on a machine with a GPU and JAX. Takes every flag of
tf_cutnmix.train; those that say where a run writes mean nothing here. For figures pass
--validation_fraction=0: run_bundle trains on a whole pack."""


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

    further_seeds: str = setting(
        "", "bundle", "a comma list of seeds; each run's first state becomes state_<seed>.npz"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.out:
            raise InputError("--out is missing: name a folder for the bundle")
        names = split_names(self.further_seeds)
        if not all(name.isdecimal() and SEED.holds(int(name)) for name in names):
            raise InputError(f"--further_seeds={self.further_seeds}: write whole numbers: 1,2,3")
        if self.augment not in (None, "none", "photo"):
            raise InputError(f"XLA cannot compile --augment={self.augment}: leave it out")
        if self.method == "kd":
            raise InputError("XLA cannot compile --method=kd: a bundle takes every other method")


def main(settings: Settings) -> None:
    """Write the bundle and print what it holds.

    Raises:
      InputError: a setting cannot be used; nothing was written.
    """
    folder = pathlib.Path(settings.out)
    _check(settings, folder)
    train = _training_images(settings)
    plan = plan_of(settings, train)
    settings, steps_per_epoch = plan.config, plan.steps_per_epoch
    _check_steps(settings, steps_per_epoch)
    policy = keras.config.dtype_policy()
    try:
        model = _seeded_model(settings, train)
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
            "watched": model.guard.watched,
            "parameters": cost.parameters(model),
            "leader": model.leader,
            "trained_parameters": cost.trained_parameters(model),
            "flops_per_image": cost.training_flops(model),
            "flags": dataclasses.asdict(settings),
            "versions": {
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
                "numpy": np.__version__,
            },
        }
        bundles.write(folder, model, programs, facts)
        for name in split_names(settings.further_seeds):
            further = _seeded_model(dataclasses.replace(settings, seed=int(name)), train)
            bundles.write_further(folder, further, int(name))
    finally:
        keras.config.set_dtype_policy(policy)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {size / 2**20:.1f} MiB, {steps_per_epoch} steps an epoch")


def plan_of(settings: Settings, train: data.Images) -> Plan:
    """Of a run on these images; those that it is scored on are carried along by `pack`."""
    return resolve(settings, Splits(train, train, train))


def _seeded_model(settings: Settings, train: data.Images) -> OnlineDistiller:
    # Names of layers are counted anew; the policy is forgotten with them.
    keras.utils.clear_session()
    keras.config.set_dtype_policy(settings.precision)
    keras.utils.set_random_seed(settings.seed)
    model = build.build_model(plan_of(settings, train))
    bundles.seeded(model, settings.seed)
    return model


def _check(settings: Settings, folder: pathlib.Path) -> None:
    """Refuse what can be refused before the data are read."""
    build.check_names(settings)
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
        resize=settings.resize,
    )
    return data.hold_out(images.with_facts(), settings.validation_fraction)[0]


if __name__ == "__main__":
    sys.exit(command.run("benchmarks.gpu.write_bundle", SUMMARY, Settings, main))
