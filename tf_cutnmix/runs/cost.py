"""What training costs: parameters, arithmetic, memory."""

import pathlib
import resource
import sys
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tf_cutnmix.distillation import OnlineDistiller
from tf_cutnmix.distillation.forward import Memory

_BACKWARD = 2


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
    pass. What peers share counts once where they see one view.
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
    return batches * once * (1 + _BACKWARD + teach)


def flops(function: Callable, inputs: Sequence[tf.TensorSpec]) -> int:
    """Multiplications and additions of a function's convolutions and matrix products."""
    graph = tf.function(function, autograph=False).get_concrete_function(*inputs).graph
    return sum(_products(operation) for operation in graph.get_operations())


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


def _products(operation: tf.Operation) -> int:
    if operation.type not in ("Conv2D", "DepthwiseConv2dNative", "MatMul"):
        return 0
    kernel = operation.inputs[1].shape
    summed = kernel[:-1] if operation.type == "Conv2D" else kernel[:-2]
    terms = kernel[0] if operation.type == "MatMul" else summed.num_elements()
    return 2 * operation.outputs[0].shape.num_elements() * terms
