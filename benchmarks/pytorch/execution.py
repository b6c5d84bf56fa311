"""How any training step is executed: its precision, what is compiled, and SGD."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

COMPILE_MODES = ("default", "reduce-overhead")
PRECISIONS = ("float32", "bfloat16")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which networks compute; raises `ValueError` for an unknown precision."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}. Received: {precision!r}")
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def compiled(function: Callable, mode: str | None) -> Callable:
    """The function, by torch.compile unless the mode is None; `ValueError` for an unknown mode."""
    if mode is None:
        return function
    if mode not in COMPILE_MODES:
        raise ValueError(f"compile_mode must be None or one of {COMPILE_MODES}. Received: {mode!r}")
    return torch.compile(function, mode=mode, fullgraph=True, dynamic=False)


def sgd(weights: list[nn.Parameter], learning_rate: float, decay: float) -> torch.optim.SGD:
    """SGD with Nesterov momentum 0.9 and coupled weight decay."""
    return torch.optim.SGD(
        weights, learning_rate, momentum=0.9, weight_decay=decay, nesterov=True, fused=True
    )


def minimise(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Backward, and a step of the optimizer."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def kept(terms: dict[str, Tensor], mode: str | None) -> dict[str, Tensor]:
    """The terms without their history, and apart from what a CUDA graph writes over."""
    terms = {name: term.detach() for name, term in terms.items()}
    return {k: t.clone() for k, t in terms.items()} if mode == "reduce-overhead" else terms
