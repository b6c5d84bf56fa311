"""Epochs of a bundle: its batches in their order, evaluation, and images per second."""

import argparse
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from .bundle import Bundle
from .files import BundleError, Images, write

WARM_UP = 3


def train(
    bundle: Bundle,
    splits: dict[str, Images],
    history: dict[str, Any],
    out: pathlib.Path,
    args: argparse.Namespace,
) -> None:
    """Train, and write `history` after every evaluation.

    Each row of `history["epochs"]` holds `epoch` from 1, `step`, `learning_rate` of the last
    call, `images_per_second` without the run's first call (None if there is no other), and
    `train`, the means of the loss's terms over the steps made now. After every `eval_every`
    epochs and at the end `test`, and `validation` if the pack has such images, hold the figures
    of `evaluate`.

    Raises:
      BundleError: the loss is no longer finite.
    """
    index, calls = bundle.index, _calls_per_epoch(bundle.index)
    per_call = index["batch_size"] * index["steps_per_call"]
    images = _to_device(splits["train"], bundle.device)
    first, last = _range_of_calls(bundle, args)
    for epoch in range(first // calls, -(-last // calls)):
        order = _order(index, epoch, bundle.seed, bundle.device)
        rows, start, timed = [], time.perf_counter(), 0
        begin, end = max(first, epoch * calls), min(last, (epoch + 1) * calls)
        for call in range(begin, end):
            rows.append(bundle.call("train_step", *_take(*images, order, call % calls)))
            timed += per_call
            if call == first:
                jax.block_until_ready(rows)
                start, timed = time.perf_counter(), 0
        jax.block_until_ready(rows)
        seconds = time.perf_counter() - start
        row = {"epoch": epoch + 1, "images_per_second": timed / seconds if timed else None}
        row |= _summary([{k: np.asarray(v).item() for k, v in r.items()} for r in rows])
        if end == last or (epoch + 1) % args.eval_every == 0:
            row |= {name: evaluate(bundle, splits[name]) for name in splits if name != "train"}
        history["epochs"].append(row)
        print(json.dumps(row), flush=True)
        failed = {k: int(rows[-1][k]) for k in ("failed_step", "failed_term")}
        if "test" in row or failed["failed_step"] >= 0:
            write(out, json.dumps(history, indent=1).encode())
        if failed["failed_step"] >= 0:
            watched = index["watched"][failed["failed_term"]]
            raise BundleError(f"step {failed['failed_step']}: the {watched} is not finite")


def evaluate(bundle: Bundle, images: Images) -> dict[str, float]:
    """The figures of a split, by the names that they have in a run's `result.json`."""
    size, count = bundle.index["eval_batch_size"], len(images.labels)
    totals: dict[str, np.ndarray] = {}
    for start in range(0, count, size):
        pixels, labels = (
            np.asarray(x[start : start + size]) for x in (images.pixels, images.labels)
        )
        missing = size - len(labels)
        pixels = np.pad(pixels, [(0, missing), (0, 0), (0, 0), (0, 0)])
        # Nobody can be right about a label of -1.
        labels = np.pad(labels, (0, missing), constant_values=-1)
        for name, part in bundle.call("eval_step", pixels, labels).items():
            totals[name] = totals.get(name, 0) + np.asarray(part, np.float64)
    return {name: float(np.sum(np.abs(total)) / count) for name, total in totals.items()}


def images_per_second(bundle: Bundle, images: Images, calls: int) -> float:
    """The rate of that many calls of the train step, waited for once at their end."""
    on_device = _to_device(images, bundle.device)
    per_epoch = _calls_per_epoch(bundle.index)
    order = _order(bundle.index, 0, bundle.seed, bundle.device)
    outputs, start = None, 0.0
    for call in range(WARM_UP + calls):
        if call == WARM_UP:
            jax.block_until_ready(outputs)
            start = time.perf_counter()
        outputs = bundle.call("train_step", *_take(*on_device, order, call % per_epoch))
    jax.block_until_ready((outputs, bundle.state))
    per_call = bundle.index["batch_size"] * bundle.index["steps_per_call"]
    return calls * per_call / (time.perf_counter() - start)


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


def _to_device(images: Images, device: Any) -> tuple[jax.Array, jax.Array]:
    return jax.device_put(images.pixels, device), jax.device_put(images.labels, device)


def _order(index: dict[str, Any], epoch: int, seed: int, device: Any) -> jax.Array:
    """The images of each call of an epoch, `[calls, steps * B]`, as `data.shuffled_batches`."""
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
