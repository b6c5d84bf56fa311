"""What training costs: parameters, arithmetic, memory."""

import math
import pathlib
import resource
import sys
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tf_cutnmix.distillation import OnlineDistiller
from tf_cutnmix.distillation.method import Memory

_BACKWARD = 2
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def trained_parameters(model: OnlineDistiller) -> int:
    """How many numbers are trained: the peers and the parts that the method adds to them."""
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def parameters(model: OnlineDistiller) -> dict[str, int]:
    """How many trained numbers each peer has, by its name."""
    return {
        f"peer{k}": int(sum(np.prod(variable.shape) for variable in peer.trainable_variables))
        for k, peer in enumerate(model.peers, start=1)
    }


def training_flops(model: OnlineDistiller) -> int:
    """Floating-point operations of a training step for each image, of the networks alone.

    The multiplications and additions of a forward pass, and twice as many for the backward
    pass. What peers share counts once where they see one view. A trained network that teaches
    has a forward pass for each peer.
    """
    shape = model.peers[0].input_shape[1:]
    separate = model.own_views or hasattr(model.mixing, "num_peers")
    views = [tf.TensorSpec([1, *shape])] * (len(model.peers) if separate else 1)
    repeats = len(model.peers) // len(views)

    def forward(*images: tf.Tensor) -> list:
        return model.run_peers(images * repeats, training=False)

    once = flops(forward, views)
    teach = any(term.uses_averages for term in model.terms)
    batches = 1 + sum(isinstance(part, Memory) for part in model.parts)
    image = [tf.TensorSpec([1, *shape], tf.uint8)]
    frozen = [part.frozen_network for part in model.parts if part.frozen_network]
    taught = len(model.peers) * sum(flops(network, image) for network in frozen)
    return batches * (once * (1 + _BACKWARD + teach) + taught)


def flops(function: Callable, inputs: Sequence[tf.TensorSpec]) -> int:
    """Multiplications and additions of a function's convolutions and matrix products."""
    return _graph_flops(tf.function(function, autograph=False).get_concrete_function(*inputs).graph)


def peak_memory() -> int:
    """The most memory that this process has held so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def multiplies_in_bfloat16() -> bool:
    """Whether the processor has instructions for products of bfloat16; False where unknown."""
    try:
        flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


def _graph_flops(graph: tf.Graph) -> int:
    """Of a graph and of the functions that it calls."""
    operations = graph.get_operations()
    called = [o.get_attr("f").name for o in operations if o.type in _CALLS]
    inner = sum(_graph_flops(graph._get_function(name).graph) for name in called)
    return inner + sum(_products(operation) for operation in operations)


def _products(operation: tf.Operation) -> int:
    """Of one operation, for one image where the size of the batch is not known."""
    if operation.type not in ("Conv2D", "DepthwiseConv2dNative", "MatMul"):
        return 0
    kernel = operation.inputs[1].shape
    summed = kernel[:-1] if operation.type == "Conv2D" else kernel[:-2]
    terms = kernel[0] if operation.type == "MatMul" else summed.num_elements()
    return 2 * math.prod(size or 1 for size in operation.outputs[0].shape) * terms
