"""Time the PyTorch program of `benchmarks.pytorch` on a GPU, or on the CPU where there is none.

    python -m benchmarks.gpu.run_pytorch --depths=32,56,110 --batches=128,512 \\
        --precisions=float32,bfloat16 --num_peers=2 --steps=50 --out=pytorch.json

Random images of CIFAR's shape lie on the device before the clock starts. Each configuration is
one row of the JSON file, which is written anew after each; a configuration that fails has its
error in its row, and the next one is timed. Needs torch and numpy.
"""

import argparse
import gc
import itertools
import json
import pathlib
import platform
import statistics
import sys
import time
from typing import Any

import torch

from benchmarks import pytorch

CLASSES = 10
BATCHES_IN_STOCK = 8
WARM_UP_STEPS = 10
PROGRAMS = ("plain", *pytorch.METHODS)
VARIANTS = {"eager": None, "compiled": "default", "cuda_graphs": "reduce-overhead"}


def main(arguments: list[str] | None = None) -> None:
    """Time every combination of the listed settings."""
    settings = _parser().parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # XLA multiplies in TensorFloat-32 on GPUs unless told otherwise.
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    report = {**environment(device), "command": sys.argv[1:], "rows": []}
    choices = (
        settings.depths,
        settings.batches,
        settings.precisions,
        settings.programs,
        settings.variants,
    )
    for depth, batch, precision, program, variant in itertools.product(*choices):
        row = {
            "program": program,
            "variant": variant,
            "depth": depth,
            "num_peers": 1 if program == "plain" else settings.num_peers,
            "batch": batch,
            "precision": precision,
        }
        report["rows"].append(row)
        try:
            row.update(measure(row, settings.steps, settings.repeats, device))
        # Whatever a compiler or a device throws is a result, and the other rows are wanted.
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {error}"[:2000]
        _forget(device)
        settings.out.write_text(json.dumps(report, indent=1) + "\n")
        print(json.dumps(row), flush=True)


def environment(device: torch.device) -> dict[str, Any]:
    """Device, versions, and how float32 is multiplied."""
    on_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.processor() or "cpu",
        "device_type": device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "python": platform.python_version(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


def measure(row: dict[str, Any], steps: int, repeats: int, device: torch.device) -> dict[str, Any]:
    """Time one configuration.

    Args:
      row: "program", "variant", "depth", "num_peers", "batch" and "precision".
      steps: timed at a stretch; the device is waited for before and after.
      repeats: stretches.
      device: where to run.

    Returns:
      "first_step_seconds", which is compiling for the most part; "seconds_per_step" of each
      stretch; "images_per_second" of their median, each image counted once however many peers
      see it; "peak_memory_bytes", None on a CPU; "loss" after the last step.
    """
    torch.manual_seed(0)
    trainer = _trainer(row, device)
    stock = _stock(row["batch"], device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    first = _seconds(trainer, stock, 1, device)
    _seconds(trainer, stock, WARM_UP_STEPS, device)
    seconds = [_seconds(trainer, stock, steps, device) / steps for _ in range(repeats)]
    on_gpu = device.type == "cuda"
    return {
        "first_step_seconds": first,
        "seconds_per_step": seconds,
        "images_per_second": row["batch"] / statistics.median(seconds),
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device) if on_gpu else None,
        "loss": trainer.step(*stock[0])["loss"].item(),
    }


def _trainer(row: dict[str, Any], device: torch.device) -> pytorch.PlainStep | pytorch.Distiller:
    common = {
        "precision": row["precision"],
        "compile_mode": VARIANTS[row["variant"]],
        "device": device,
    }
    if row["program"] == "plain":
        return pytorch.PlainStep(row["depth"], CLASSES, **common)
    return pytorch.Distiller(
        row["depth"],
        row["num_peers"],
        CLASSES,
        method=row["program"],
        ramp_steps=10_000,
        **common,
    )


def _stock(batch: int, device: torch.device) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Some batches of random pixels and one-hot labels, on the device."""
    stock = []
    for _ in range(BATCHES_IN_STOCK):
        pixels = torch.randint(0, 256, (batch, 32, 32, 3), dtype=torch.uint8, device=device)
        classes = torch.randint(0, CLASSES, (batch,), device=device)
        labels = torch.nn.functional.one_hot(classes, CLASSES).float()
        stock.append((pixels.permute(0, 3, 1, 2), labels))
    return stock


def _seconds(
    trainer: pytorch.PlainStep | pytorch.Distiller,
    stock: list[tuple[torch.Tensor, torch.Tensor]],
    steps: int,
    device: torch.device,
) -> float:
    _wait(device)
    start = time.perf_counter()
    for images, labels in itertools.islice(itertools.cycle(stock), steps):
        trainer.step(images, labels)
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _forget(device: torch.device) -> None:
    """Give back what the last configuration compiled and allocated."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depths", type=_numbers, default=[32], help="6n+2, a comma list")
    parser.add_argument("--batches", type=_numbers, default=[128], help="a comma list")
    for name, known in (
        ("precisions", pytorch.PRECISIONS),
        ("programs", PROGRAMS),
        ("variants", tuple(VARIANTS)),
    ):
        help_text = f"a comma list of {', '.join(known)}; by default all"
        parser.add_argument(f"--{name}", type=_names(known), default=list(known), help=help_text)
    parser.add_argument("--num_peers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=50, help="timed at a stretch")
    parser.add_argument("--repeats", type=int, default=3, help="stretches")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="JSON file to write")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _names(known: tuple[str, ...]) -> Any:
    def names(text: str) -> list[str]:
        parts = text.split(",")
        if unknown := set(parts) - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(known)}")
        return parts

    return names


if __name__ == "__main__":
    main()
