"""The bundle on the device: its programs compiled, and the state that they share.

It uses JAX's own way to its compiler, which no release promises: tried with jax 0.10.2 and 0.11.2.
With `JAX_COMPILATION_CACHE_DIR` set, JAX compiles a program once for all processes.
"""

import io
import json
import pathlib
import time
from typing import Any

import jax
import numpy as np
from jax._src import compiler, xla_bridge
from jax._src.interpreters import mlir
from jax._src.lib import _jax
from jax._src.lib.mlir import ir

from .files import BundleError, read_state, write

# Steps are counted with 64 bits.
jax.config.update("jax_enable_x64", True)


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
        self.load(state or folder / "state.npz")
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

    @property
    def seed(self) -> int:
        """Of the state's run: of its draws, and of its batches' order."""
        key = self.index["seed_variable"]
        return int(self.state[key]) if key in self.state else self.index["flags"]["seed"]

    def load(self, path: pathlib.Path) -> None:
        """Take the state that a file holds.

        Raises:
          BundleError: it is not of this bundle.
        """
        values = read_state(path, self.index["variables"])
        self.state = {name: jax.device_put(value, self.device) for name, value in values.items()}

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
        write(path, content.getvalue())


def _compile(text: str, device: Any) -> Any:
    options = compiler.get_compile_options(num_replicas=1, num_partitions=1)
    with mlir.make_ir_context():
        return compiler.compile_or_get_cached(
            xla_bridge.get_backend(),
            ir.Module.parse(text),
            np.array([device]),
            options,
            [],
            _jax.DeviceList((device,)),
        )


def _cost(program: Any) -> dict[str, float]:
    """XLA's properties of a program, without those of single operands."""
    return {k: v for k, v in program.cost_analysis().items() if "{" not in k}


def _memory(program: Any) -> dict[str, int]:
    stats = program.get_compiled_memory_stats()
    return {
        kind: getattr(stats, f"{kind}_size_in_bytes") for kind in ("argument", "output", "temp")
    }
