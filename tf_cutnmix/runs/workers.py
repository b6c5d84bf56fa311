"""The devices and the processes of a run: which of them there are, and that one of them writes."""

import contextlib
import dataclasses
import io
import json
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tf_cutnmix.errors import InputError, RunError, first_line
from tf_cutnmix.runs.config import Config
from tf_cutnmix.settings import Role, names_of

# What TensorFlow says in the processes that are left when one of several has ended.
_LEFT_ALONE = (
    *(tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError),
    *(tf.errors.DeadlineExceededError, tf.errors.InternalError),
)
# Of SLURM's jobs, below those that systems give away.
_FIRST_PORT, _PORTS, _MOST_TASKS = 20_000, 10_000, 1_000
_EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)


class Workers:
    """Where a run is trained. To be made before TensorFlow's first operation.

    Args:
      distribute: as of `Config`.

    Attributes:
      strategy: of `tf.distribute`; None for one device.
      processes: that train the run together.
      number: of this one, from 0, which is the chief.

    Raises:
      InputError: there are no several devices, or `TF_CONFIG` does not say which.
      RunError: the port of this process is taken, or another process never came.
    """

    def __init__(self, distribute: str) -> None:
        self.strategy: tf.distribute.Strategy | None = None
        self.processes, self.number = 1, 0
        self._add: Callable | None = None
        if distribute == "mirrored":
            self.strategy = _mirrored()
        if distribute == "multi_worker":
            resolver = _resolver()
            jobs = resolver.cluster_spec().as_dict()
            chiefs = len(jobs.get("chief", ()))
            self.processes = chiefs + len(jobs.get("worker", ()))
            self.number = resolver.task_id + chiefs * (resolver.task_type == "worker")
            address = jobs[resolver.task_type][resolver.task_id]
            print(
                f"worker {self.number} of {self.processes}, at {address}, waits for the others",
                flush=True,
            )
            try:
                self.strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
            except tf.errors.UnknownError as error:
                raise RunError(
                    f"worker {self.number} cannot listen at {address}: {first_line(error)}; "
                    "another program may have the port: name others, on all workers"
                ) from error
            except tf.errors.DeadlineExceededError as error:
                raise RunError(
                    f"worker {self.number} has waited for the others in vain: look there for the "
                    "reason, and start all of them again"
                ) from error
            self._add = _adding(self.strategy, self.processes)

    @property
    def chief(self) -> bool:
        """Whether this process is the one that writes."""
        return self.number == 0

    @contextlib.contextmanager
    def place(self, config: Config) -> Iterator[Config]:
        """The settings of this process: all but the chief write into a folder that is removed.

        They say nothing, either.
        """
        if self.chief:
            yield config
            return
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            yield dataclasses.replace(config, workdir=folder, export="", resume=False)

    def agreed(self, config: Config, make: Callable[[], tuple[Any, Config]]) -> tuple[Any, Config]:
        """What the chief goes on from, with its settings, but for where this process writes."""
        found, settings = self.from_chief(make)
        own = names_of(Config, Role.PLACE, Role.EARLIER_RUN)
        kept = {name: getattr(config, name) for name in (*own, "export")}
        return found, dataclasses.replace(settings, **kept)

    def check_equal(self, name: str, make: Callable[[], Any]) -> None:
        """Raise `InputError` if a function returns something else here than in the chief."""
        if self.processes == 1:
            return
        own = make()
        if self.from_chief(lambda: own) != own:
            raise InputError(
                f"worker {self.number} has other {name} than worker 0: give all of them the same"
            )

    def from_chief(self, make: Callable[[], Any]) -> Any:
        """What a function returns in the chief, in every process; it is called there alone."""
        if self.processes == 1:
            return make()
        made = pickle.dumps(make()) if self.chief else b""
        with self.together():
            (size,) = self._sum(np.array([len(made)], np.int32))
            padded = np.zeros(-(-size // 4), np.int32)
            padded.view(np.uint8)[: len(made)] = np.frombuffer(made, np.uint8)
            return pickle.loads(self._sum(padded).tobytes())

    @contextlib.contextmanager
    def together(self, save: Callable[[], None] = lambda: None) -> Iterator[None]:
        """In its context it is one clear error if another process is no longer there.

        Args:
          save: called then in the chief: of a step that was not finished nothing has changed.

        Raises:
          RunError: another process has ended.
        """
        try:
            yield
        except _LEFT_ALONE as error:
            if self.processes == 1:
                raise
            if self.chief:
                save()
            raise RunError(
                f"another of the {self.processes} workers has ended, and with it the run: look "
                "there for the reason; the same command with --resume, for as many workers or "
                "others, goes on from what was saved"
            ) from error

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """The sum over all processes of int32 arrays of one length."""
        assert self._add is not None  # as there are several processes
        return self._add(values).numpy()


def _adding(strategy: tf.distribute.Strategy, processes: int) -> Callable:
    """A function to the sum over all processes of int32 arrays of one length."""
    devices = strategy.num_replicas_in_sync // processes

    def own(values: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        # Each device of a process has what the process has.
        first = tf.equal(context.replica_id_in_sync_group % devices, 0)
        once = tf.where(first, values, tf.zeros_like(values))
        return context.all_reduce(tf.distribute.ReduceOp.SUM, once)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)], autograph=False)
    def add(values: tf.Tensor) -> tf.Tensor:
        return strategy.experimental_local_results(strategy.run(own, args=(values,)))[0]

    return add


def _mirrored() -> tf.distribute.Strategy:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        raise InputError(
            f"--distribute=mirrored is for several devices and finds {devices[0].name} alone: "
            "leave it out, or pass --distribute=multi_worker for several processes"
        )
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _resolver() -> tf.distribute.cluster_resolver.ClusterResolver:
    """Of TF_CONFIG, or else of SLURM."""
    resolvers = tf.distribute.cluster_resolver
    if "TF_CONFIG" not in os.environ and "SLURM_PROCID" in os.environ:
        return _slurm()
    try:
        told = json.loads(os.environ.get("TF_CONFIG", ""))
        kind, index = told["task"]["type"], int(told["task"]["index"])
        addresses = told["cluster"][kind]
        if kind not in ("chief", "worker") or not 0 <= index < len(addresses):
            raise ValueError("task is none of the cluster's")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            "--distribute=multi_worker is told by the environment which processes there are and "
            f"which of them this is: by SLURM, or in TF_CONFIG, such as {_EXAMPLE}. "
            f"Received: TF_CONFIG={os.environ.get('TF_CONFIG', '')!r}"
        ) from error
    return resolvers.TFConfigClusterResolver()


def _slurm() -> tf.distribute.cluster_resolver.ClusterResolver:
    try:
        told = tf.distribute.cluster_resolver.SlurmClusterResolver(
            # Two jobs of one machine are not to meet.
            port_base=_FIRST_PORT + int(os.environ.get("SLURM_JOB_ID", "0")) % _PORTS,
            # Which GPUs a process sees is for SLURM to say. Counted here, there would have to be
            # some, and a program that lists them.
            gpus_per_node=_MOST_TASKS,
            gpus_per_task=1,
            auto_set_gpu=False,
        )
        cluster = told.cluster_spec()
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"--distribute=multi_worker: SLURM does not say which processes there are: {error} "
            "Start the command with srun, or pass TF_CONFIG"
        ) from error
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        cluster,
        task_type=told.task_type,
        task_id=told.task_id,
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
        rpc_layer="grpc",
    )
