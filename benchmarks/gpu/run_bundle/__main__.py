"""Train a bundle of write_bundle.py on the device that JAX has, or time it."""

import argparse
import json
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax

from .bundle import Bundle
from .files import BundleError, check, unpack, write
from .training import images_per_second, train


def head(bundle: Bundle, args: argparse.Namespace) -> dict[str, Any]:
    """What a history begins with: the device, the versions, the settings, the program's costs."""
    return {
        "bundle": str(args.bundle),
        "flags": bundle.index["flags"],
        "batch_size": bundle.index["batch_size"],
        "steps_per_call": bundle.index["steps_per_call"],
        "steps_per_epoch": bundle.index["steps_per_epoch"],
        "first_step": bundle.step,
        "device": bundle.device.device_kind,
        "platform": bundle.device.platform,
        "versions": {**bundle.index["versions"], "jax": jax.__version__},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "compile_seconds": bundle.compile_seconds,
        "costs": bundle.costs,
        "memory": bundle.memory,
    }


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The settings from command-line arguments."""
    parser = argparse.ArgumentParser(prog="python -m run_bundle", description=__doc__)
    parser.add_argument("bundle", type=pathlib.Path)
    parser.add_argument("data", type=pathlib.Path, help="a file that pack.py wrote")
    parser.add_argument("--epochs", type=_count, help="to train now; default: the run's rest")
    parser.add_argument("--steps", type=_count, help="to make now at most; for trying")
    parser.add_argument("--time_steps", type=_count, help="only time so many calls")
    parser.add_argument("--eval_every", type=_count, default=10, help="epochs")
    parser.add_argument("--seed", type=int, help="of the batches' order; default: the bundle's")
    parser.add_argument("--state", type=pathlib.Path, help="start from what --save wrote")
    parser.add_argument("--save", type=pathlib.Path, help="write the last state here")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("history.json"))
    return parser.parse_args(arguments)


def main(args: argparse.Namespace) -> None:
    """Train as `args` say, or time.

    Raises:
      BundleError: something that was passed cannot be used, or the loss is not finite.
    """
    splits = unpack(args.data)
    bundle = Bundle(args.bundle, args.state)
    check(bundle.index, splits)
    history = {"head": head(bundle, args), "epochs": []}
    print(f"compiled in {bundle.compile_seconds} s for {bundle.device.device_kind}", flush=True)
    if args.time_steps:
        rate = images_per_second(bundle, splits["train"], args.time_steps, args.seed)
        history["images_per_second"] = rate
        print(f"{rate:.1f} images/s")
        write(args.out, json.dumps(history, indent=1).encode())
        return
    train(bundle, splits, history, args)
    if args.save:
        bundle.save(args.save)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number of 1 or more")
    return number


if __name__ == "__main__":
    try:
        main(parse(sys.argv[1:]))
    except BundleError as problem:
        sys.exit(f"error: {problem}")
