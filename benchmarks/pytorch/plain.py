"""The plain training step: one network, as it is usually trained."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.pytorch.execution import autocast, compiled, kept, minimise, sgd
from benchmarks.pytorch.network import ResNet


class PlainStep(nn.Module):
    """The usual training step of one network: forward, cross-entropy, backward, SGD.

    It neither augments nor mixes nor averages. Arguments as of `Distiller`.
    """

    def __init__(
        self,
        depth: int,
        num_classes: int = 10,
        *,
        learning_rate: float = 0.1,
        weight_decay: float = 5e-4,
        precision: str = "float32",
        compile_mode: str | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        self.precision = precision
        self.compile_mode = compile_mode
        self.network = ResNet(depth, num_classes)
        self.to(device=device, memory_format=torch.channels_last)
        self.optimizer = sgd(list(self.parameters()), learning_rate, weight_decay)
        self._losses = compiled(self.losses, compile_mode)

    def step(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """One training step, arguments and result as of `Distiller.step`."""
        if self.compile_mode == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        terms = self._losses(images, labels)
        minimise(terms["loss"], self.optimizer)
        return kept(terms, self.compile_mode)

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The cross-entropy, as "loss"."""
        with autocast(images.device, self.precision):
            _, logits = self.network(images)
        return {"loss": functional.cross_entropy(logits.float(), labels)}
