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
from .files import BundleError, Images, check, unpack, write
from .training import images_per_second, train

_FACTS = (
    *("batch_size", "steps_per_call", "steps_per_epoch"),
    *("parameters", "trained_parameters", "flops_per_image", "leader"),
)


def head(bundle: Bundle, splits: dict[str, Images], args: argparse.Namespace) -> dict[str, Any]:
    """What a history begins with: the device, the versions, the settings, the program's costs."""
    return {
        "bundle": str(args.bundle),
        "flags": bundle.index["flags"],
        "splits": {name: images.split for name, images in splits.items()},
        **{name: bundle.index[name] for name in _FACTS},
        "first_step": bundle.step,
        "seed": bundle.seed,
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
    parser.add_argument(
        "--state",
        type=pathlib.Path,
        nargs="+",
        help="start from what --save wrote, or from states of further seeds, one after the other",
    )
    parser.add_argument("--save", type=pathlib.Path, help="write the last state here")
    parser.add_argument(
        "--out", default="history.json", help="{} in it becomes the name of the state"
    )
    args = parser.parse_args(arguments)
    args.state = args.state or [args.bundle / "state.npz"]
    if len(args.state) > 1 and ("{}" not in args.out or args.save or args.time_steps):
        parser.error("of several states --out={}.json names each history, and none is saved")
    return args


def main(args: argparse.Namespace) -> None:
    """Train as `args` say, or time.

    Raises:
      BundleError: something that was passed cannot be used, or the loss is not finite.
    """
    splits = unpack(args.data)
    bundle = Bundle(args.bundle, args.state[0])
    check(bundle.index, splits)
    print(f"compiled in {bundle.compile_seconds} s for {bundle.device.device_kind}", flush=True)
    for state in args.state:
        bundle.load(state)
        history = {"head": head(bundle, splits, args), "epochs": []}
        out = pathlib.Path(args.out.replace("{}", state.stem))
        if args.time_steps:
            rate = images_per_second(bundle, splits["train"], args.time_steps)
            history["images_per_second"] = rate
            print(f"{rate:.1f} images/s")
            write(out, json.dumps(history, indent=1).encode())
        else:
            train(bundle, splits, history, out, args)
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
