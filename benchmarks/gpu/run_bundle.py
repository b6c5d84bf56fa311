"""Train a bundle of write_bundle.py on the device that JAX has: `run_bundle.py DIR PACK.npz`.

Needs jax, numpy and Pillow, and nothing else of this project: the file may be copied alone.
The batches are those of a run of `tf_cutnmix.train` with the bundle's flags, in their order; the
state (weights, optimizer, moving averages, counters) stays on the device between calls.

    python run_bundle.py bundle cifar10.npz --steps 20                # a trial
    python run_bundle.py bundle cifar10.npz --epochs 60 --save at60.npz
    python run_bundle.py bundle cifar10.npz --state at60.npz          # the rest of the run
    python run_bundle.py bundle cifar10.npz --time_steps 30           # images per second alone

It uses JAX's own way to its compiler, which no release promises: tried with jax 0.10.2.
"""

import argparse
import io
import itertools
import json
import os
import pathlib
import sys
import time
import zipfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax._src import compiler, xla_bridge
from jax._src.interpreters import mlir
from jax._src.lib import _jax
from jax._src.lib.mlir import ir
from PIL import Image

# Steps are counted with 64 bits.
jax.config.update("jax_enable_x64", True)

WARM_UP = 3


class BundleError(Exception):
    """A run cannot begin or go on; the message is one line for a person to read."""


class Images(NamedTuple):
    """A labelled set of images: `[N, H, W, 3]` uint8, and `[N]` int32."""

    pixels: Any
    labels: Any


class Bundle:
    """The programs of a bundle and the state that they share, on the first device of JAX.

    Args:
      folder: that write_bundle.py wrote.
      state: a file that `save` wrote, or None for the bundle's own state.

    Attributes:
      index: what `index.json` holds.
      state: by name, the variables' values.
      compile_seconds: of each program.
      costs: of each program, what XLA says of it before it has run: `flops`, `bytes accessed`
        and its other properties. It counts the body of a loop once: they are of one step.
      memory: of each program, bytes on the device for arguments, outputs and what is between.

    Raises:
      BundleError: the bundle cannot be read, or the state is not of this bundle.
    """

    def __init__(self, folder: pathlib.Path, state: pathlib.Path | None = None) -> None:
        self.device = jax.devices()[0]
        try:
            self.index = json.loads((folder / "index.json").read_text())
            texts = {n: (folder / f"{n}.mlir").read_text() for n in self.index["programs"]}
        except (OSError, ValueError) as error:
            raise BundleError(f"{folder} is no bundle: {error}") from error
        values = _read_state(state or folder / "state.npz", self.index["variables"])
        self.state = {name: jax.device_put(value, self.device) for name, value in values.items()}
        self.compile_seconds, self._programs = {}, {}
        for name, text in texts.items():
            start = time.perf_counter()
            self._programs[name] = _compile(text, self.device)
            self.compile_seconds[name] = round(time.perf_counter() - start, 2)
        self.costs = {name: _cost(program) for name, program in self._programs.items()}
        self.memory = {name: _memory(program) for name, program in self._programs.items()}

    @property
    def step(self) -> int:
        """How many training steps the state has behind it."""
        return int(self.state[self.index["step_variable"]])

    def call(self, name: str, *inputs: Any) -> dict[str, jax.Array]:
        """Run a program; its variables take their new values.

        Args:
          name: "train_step" or "eval_step".
          inputs: arrays of the shapes and dtypes in the index.

        Returns:
          Its outputs, on the device, which may still be at work on them.

        Raises:
          BundleError: an input has another shape or dtype.
        """
        entry = self.index["programs"][name]
        found = [[list(x.shape), x.dtype.name] for x in inputs]
        if found != entry["inputs"]:
            raise BundleError(f"{name} takes {entry['inputs']} and was given {found}")
        arguments = [jax.device_put(x, self.device) for x in inputs]
        arguments += [self.state[key] for key in entry["variables"]]
        results = self._programs[name].execute_sharded(arguments)
        arrays = [shards[0] for shards in results.disassemble_into_single_device_arrays()]
        updates = {int(position): key for position, key in entry["updates"].items()}
        self.state.update({key: arrays[position] for position, key in updates.items()})
        rest = [array for position, array in enumerate(arrays) if position not in updates]
        return dict(zip(entry["outputs"], rest, strict=True))

    def save(self, path: pathlib.Path) -> None:
        """Write the state, all or nothing; another `Bundle` of this folder goes on from there."""
        content = io.BytesIO()
        np.savez(content, **{name: np.asarray(value) for name, value in self.state.items()})
        _write(path, content.getvalue())


def unpack(path: pathlib.Path) -> dict[str, Images]:
    """The splits "train" and "test" of a pack, whose format pack.py states, decoded.

    Raises:
      BundleError: the file is no pack, or its images differ in size.
    """
    splits = {}
    try:
        with np.load(path) as pack:
            for split in ("train", "test"):
                content = pack[f"{split}_bytes"].tobytes()
                ends = np.cumsum(pack[f"{split}_sizes"], dtype=np.int64)
                pairs = itertools.pairwise([0, *ends.tolist()])
                pixels = np.stack([_decode(content[start:end]) for start, end in pairs])
                splits[split] = Images(pixels, pack[f"{split}_labels"].astype(np.int32))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path} cannot be unpacked: {error}") from error
    return splits


def train(
    bundle: Bundle, splits: dict[str, Images], history: dict[str, Any], args: argparse.Namespace
) -> None:
    """Train, and write `history` after every epoch.

    Each row of `history["epochs"]` holds `epoch` from 1, `step`, `learning_rate` of the last
    call, `images_per_second` without the run's first call (None if there is no other), and
    `train`, the means of the loss's terms over the steps made now. After every `eval_every`
    epochs and at the end `test` holds the accuracy of each network.

    Raises:
      BundleError: the loss is no longer finite.
    """
    index, calls = bundle.index, _calls_per_epoch(bundle.index)
    per_call = index["batch_size"] * index["steps_per_call"]
    data = {name: _to_device(split, bundle.device) for name, split in splits.items()}
    first, last = _range_of_calls(bundle, args)
    for epoch in range(first // calls, -(-last // calls)):
        order = _order(index, epoch, args.seed, bundle.device)
        rows, start, timed = [], time.perf_counter(), 0
        begin, end = max(first, epoch * calls), min(last, (epoch + 1) * calls)
        for call in range(begin, end):
            rows.append(bundle.call("train_step", *_take(*data["train"], order, call % calls)))
            timed += per_call
            if call == first:
                jax.block_until_ready(rows)
                start, timed = time.perf_counter(), 0
        jax.block_until_ready(rows)
        seconds = time.perf_counter() - start
        row = {"epoch": epoch + 1, "images_per_second": timed / seconds if timed else None}
        row |= _summary([{k: np.asarray(v).item() for k, v in r.items()} for r in rows])
        if end == last or (epoch + 1) % args.eval_every == 0:
            row["test"] = evaluate(bundle, data["test"])
        history["epochs"].append(row)
        print(json.dumps(row), flush=True)
        _write(args.out, json.dumps(history, indent=1).encode())
        failed = {k: int(rows[-1][k]) for k in ("failed_step", "failed_term")}
        if failed["failed_step"] >= 0:
            watched = index["watched"][failed["failed_term"]]
            raise BundleError(f"step {failed['failed_step']}: the {watched} is not finite")


def evaluate(bundle: Bundle, images: Images) -> dict[str, float]:
    """The accuracy of the teacher, of the ensemble and of each network on all images."""
    size, count = bundle.index["eval_batch_size"], len(images.labels)
    totals = {}
    for start in range(0, count, size):
        pixels, labels = (
            np.asarray(x[start : start + size]) for x in (images.pixels, images.labels)
        )
        missing = size - len(labels)
        pixels = np.pad(pixels, [(0, missing), (0, 0), (0, 0), (0, 0)])
        # Nobody can be right about a label of -1.
        labels = np.pad(labels, (0, missing), constant_values=-1)
        for name, right in bundle.call("eval_step", pixels, labels).items():
            totals[name] = totals.get(name, 0) + int(right)
    return {name: total / count for name, total in totals.items()}


def images_per_second(bundle: Bundle, images: Images, calls: int, seed: int | None) -> float:
    """The rate of that many calls of the train step, waited for once at their end."""
    images = _to_device(images, bundle.device)
    per_epoch = _calls_per_epoch(bundle.index)
    order = _order(bundle.index, 0, seed, bundle.device)
    outputs, start = None, 0.0
    for call in range(WARM_UP + calls):
        if call == WARM_UP:
            jax.block_until_ready(outputs)
            start = time.perf_counter()
        outputs = bundle.call("train_step", *_take(*images, order, call % per_epoch))
    jax.block_until_ready((outputs, bundle.state))
    per_call = bundle.index["batch_size"] * bundle.index["steps_per_call"]
    return calls * per_call / (time.perf_counter() - start)


def check(index: dict[str, Any], splits: dict[str, Images]) -> None:
    """Raise `BundleError` if a bundle cannot be trained and evaluated on these images."""
    needed = index["programs"]["train_step"]["inputs"][0][0][1:]
    for name, split in splits.items():
        if list(split.pixels.shape[1:]) != needed:
            raise BundleError(f"the {name} images are {split.pixels.shape[1:]}, not {needed}")
        classes = len(index["class_names"])
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= classes:
            raise BundleError(f"the {name} labels are {low} to {high}, for {classes} classes")
    found, wanted = len(splits["train"].labels), index["train_images"]
    if found != wanted:
        raise BundleError(
            f"an epoch of this bundle is of {wanted} images and the pack has {found} to train on: "
            "make the bundle with --validation_fraction=0 and pack the same split"
        )


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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
        _write(args.out, json.dumps(history, indent=1).encode())
        return
    train(bundle, splits, history, args)
    if args.save:
        bundle.save(args.save)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number of 1 or more")
    return number


def _decode(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def _read_state(path: pathlib.Path, wanted: dict[str, list]) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as file:
            values = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    found = {name: [list(value.shape), value.dtype.name] for name, value in values.items()}
    odd = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]
    if odd:
        raise BundleError(
            f"{path} is of another bundle: {odd[0]} is {found.get(odd[0], 'missing')} where this "
            f"one has {wanted.get(odd[0], 'nothing')}"
        )
    return values


def _compile(text: str, device: Any) -> Any:
    options = compiler.get_compile_options(num_replicas=1, num_partitions=1)
    with mlir.make_ir_context():
        return compiler.backend_compile_and_load(
            xla_bridge.get_backend(),
            ir.Module.parse(text),
            _jax.DeviceList((device,)),
            options,
            [],
        )


def _cost(program: Any) -> dict[str, float]:
    """XLA's properties of a program, without those of single operands."""
    return {k: v for k, v in program.cost_analysis().items() if "{" not in k}


def _memory(program: Any) -> dict[str, int]:
    stats = program.get_compiled_memory_stats()
    return {
        kind: getattr(stats, f"{kind}_size_in_bytes") for kind in ("argument", "output", "temp")
    }


def _calls_per_epoch(index: dict[str, Any]) -> int:
    return index["steps_per_epoch"] // index["steps_per_call"]


def _range_of_calls(bundle: Bundle, args: argparse.Namespace) -> tuple[int, int]:
    """The first call that is to be made and the one after the last, counted from the start."""
    index, calls = bundle.index, _calls_per_epoch(bundle.index)
    steps = index["steps_per_call"]
    first = bundle.step // steps
    last = calls * index["epochs"]
    if args.epochs:
        wanted = (first // calls + args.epochs) * calls
        if wanted > last:
            raise BundleError(
                f"--epochs={args.epochs}: the bundle's run is of {index['epochs']} epochs, of "
                f"which {first // calls} are over"
            )
        last = wanted
    if args.steps:
        if args.steps % steps:
            raise BundleError(f"--steps={args.steps}: one call makes {steps}, pass a multiple")
        last = min(last, first + args.steps // steps)
    if first >= last:
        raise BundleError(f"the bundle's run of {index['epochs']} epochs is over")
    return first, last


def _to_device(images: Images, device: Any) -> Images:
    return Images(*(jax.device_put(array, device) for array in (images.pixels, images.labels)))


def _order(index: dict[str, Any], epoch: int, seed: int | None, device: Any) -> jax.Array:
    """The images of each call of an epoch, `[calls, steps * B]`, as `data.shuffled_batches`."""
    seed = index["flags"]["seed"] if seed is None else seed
    order = np.random.default_rng((seed, epoch)).permutation(index["train_images"])
    per_call = index["batch_size"] * index["steps_per_call"]
    calls = _calls_per_epoch(index)
    return jax.device_put(order[: calls * per_call].reshape(calls, per_call), device)


@jax.jit
def _take(pixels: Any, labels: Any, order: Any, call: Any) -> tuple[jax.Array, jax.Array]:
    return pixels[order[call]], labels[order[call]]


def _summary(rows: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Means over calls, but where the last value is what counts."""
    last = ("step", "learning_rate", "failed_step", "failed_term")
    terms = [name for name in rows[0] if name not in last]
    return {
        "step": rows[-1]["step"],
        "learning_rate": rows[-1]["learning_rate"],
        "train": {name: float(np.mean([row[name] for row in rows])) for name in terms},
    }


def _write(path: pathlib.Path, content: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise BundleError(f"{path} cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    try:
        main(parse(sys.argv[1:]))
    except BundleError as problem:
        sys.exit(f"error: {problem}")
