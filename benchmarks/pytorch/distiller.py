"""The whole training step: peers, their averages, and the terms by which they teach each other."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.pytorch.execution import autocast, compiled, kept, minimise, sgd
from benchmarks.pytorch.network import ResNet
from benchmarks.pytorch.views import crop_and_flip, cutnmix

METHODS = ("independent", "cutnmix")


class Distiller(nn.Module):
    """Peers, their averages and feature adapters, trained in one step.

    Args:
      depth: of each peer, 6n+2.
      num_peers: 1 or more.
      num_classes: `K`.
      method: "cutnmix", or "independent": the same without its two distillation terms.
      learning_rate: of SGD with Nesterov momentum 0.9.
      weight_decay: coupled, over all trained weights.
      average_momentum: the largest of the moving averages, in [0, 1).
      ramp_steps: over how many steps the distillation terms grow to full weight.
      temperature: softens predictions that are imitated.
      alpha: of the mixing.
      augment: whether `step` crops and mirrors.
      mix: whether `step` mixes; if not, all peers see the same.
      precision: "float32", or "bfloat16" for autocast of the networks.
      compile_mode: None runs eagerly; "default" compiles the loss with its gradients and, on
        a GPU, the views; "reduce-overhead" replays those as CUDA graphs as well.
      device: where it all lives.

    Raises:
      ValueError: a setting is not one of those above.
    """

    def __init__(
        self,
        depth: int,
        num_peers: int = 2,
        num_classes: int = 10,
        *,
        method: str = "cutnmix",
        learning_rate: float = 0.1,
        weight_decay: float = 5e-4,
        average_momentum: float = 0.999,
        ramp_steps: int = 0,
        temperature: float = 3.0,
        alpha: float = 1.0,
        augment: bool = True,
        mix: bool = True,
        precision: str = "float32",
        compile_mode: str | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        if method not in METHODS:
            raise ValueError(f"method must be one of {METHODS}. Received: {method!r}")
        self.method = method
        self.average_momentum = average_momentum
        self.ramp_steps = ramp_steps
        self.temperature = temperature
        self.alpha = alpha
        self.augment = augment
        self.mix = mix
        self.precision = precision
        self.compile_mode = compile_mode
        self.peers = nn.ModuleList(ResNet(depth, num_classes) for _ in range(num_peers))
        # Averages that teach normalise by their batch and keep statistics of their own.
        self.teaches = method == "cutnmix"
        self.averages = copy.deepcopy(self.peers).train(self.teaches).requires_grad_(False)
        self.pairs = [(k, j) for k in range(num_peers) for j in range(num_peers) if j != k]
        pairs = self.pairs if self.teaches else []
        self.adapters = nn.ModuleList(nn.Linear(64, 64, bias=False) for _ in pairs)
        # The step twice: compiled code reads the tensor, as a new number would recompile it;
        # the momentum of the averages needs a number on the host, and must not wait for one.
        self.register_buffer("step_on_device", torch.zeros((), dtype=torch.int64))
        self.taken = 0
        self.to(device=device, memory_format=torch.channels_last)
        trained = [*self.peers.parameters(), *self.adapters.parameters()]
        self.optimizer = sgd(trained, learning_rate, weight_decay)
        state = _weights if self.teaches else _float_state
        self._averaged, self._followed = state(self.averages), state(self.peers)
        # On a CPU compiled views take five times as long as the plain operations (measured).
        on_gpu = torch.device(device).type == "cuda"
        self._views = compiled(self.make_views, compile_mode if on_gpu else None)
        self._losses = compiled(self.losses, compile_mode)

    def step(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """One training step; does not wait for the device.

        Args:
          images: pixels `[B, 3, H, W]`, on the device, best uint8 in channels_last memory.
          labels: `[B, K]` float32, on the device.

        Returns:
          The terms of the loss by name and their sum as "loss", scalars on the device. Weight
          decay is left to the optimizer and is no term.
        """
        if self.compile_mode == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        return self.train_on_views(*self._views(images, labels))

    def train_on_views(self, views: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """What `step` does once every peer has its view; results as of `step`."""
        terms = self._losses(views, labels)
        minimise(terms["loss"], self.optimizer)
        memory = max(1 / (self.taken + 1), 1 - self.average_momentum)
        torch._foreach_lerp_(self._averaged, self._followed, memory)
        self.step_on_device.add_(1)
        self.taken += 1
        return kept(terms, self.compile_mode)

    @torch.no_grad()
    def make_views(self, images: Tensor, labels: Tensor) -> tuple[list[Tensor], Tensor]:
        """A view `[B, 3, H, W]` for each peer, and the labels `[B, K]` that they share."""
        if self.augment:
            images = crop_and_flip(images)
        if not self.mix:
            return [images] * len(self.peers), labels
        return cutnmix(images, labels, len(self.peers), self.alpha)

    def losses(self, views: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """The terms of the loss by name, and their sum as "loss"."""
        with autocast(views[0].device, self.precision):
            outputs = [peer(view) for peer, view in zip(self.peers, views, strict=True)]
            adapted = [
                adapter(outputs[k][0])
                for (k, _), adapter in zip(self.pairs, self.adapters, strict=False)
            ]
        logits = [z.float() for _, z in outputs]
        terms = {"cross_entropy": sum(functional.cross_entropy(z, labels) for z in logits)}
        if self.teaches:
            ramp = self._ramp()
            terms["teacher"] = ramp * self._teacher_term(views, logits)
            terms["feature"] = 0.1 * ramp * self._feature_term([f for f, _ in outputs], adapted)
        return {"loss": sum(terms.values()), **terms}

    def _teacher_term(self, views: list[Tensor], logits: list[Tensor]) -> Tensor:
        """`sum_k T^2 KL(q || softmax(z_k / T))`, q the mean over the averaged peers."""
        with torch.no_grad(), autocast(views[0].device, self.precision):
            taught = [average(v)[1] for average, v in zip(self.averages, views, strict=True)]
        softened = [(z.float() / self.temperature).softmax(dim=-1) for z in taught]
        target = sum(softened) / len(softened)
        divergences = [
            functional.kl_div((z / self.temperature).log_softmax(-1), target, reduction="batchmean")
            for z in logits
        ]
        return self.temperature**2 * sum(divergences)

    def _feature_term(self, features: list[Tensor], adapted: list[Tensor]) -> Tensor:
        """`sum_k mean_{j != k} |unit(A_kj f_k) - unit(f_j)|^2`, the targets without gradient."""
        if not adapted:
            return features[0].new_zeros(())
        targets = [functional.normalize(f.detach().float(), dim=-1) for f in features]
        distances = [
            (functional.normalize(a.float(), dim=-1) - targets[j]).square().sum(dim=-1).mean()
            for (_, j), a in zip(self.pairs, adapted, strict=True)
        ]
        return sum(distances) / (len(features) - 1)

    def _ramp(self) -> Tensor | float:
        """Sigmoid ramp-up `exp(-5 (1 - min(t, R) / R)^2)` (Laine and Aila 2017); 1 if R is 0."""
        if not self.ramp_steps:
            return 1.0
        progress = (self.step_on_device / self.ramp_steps).clamp(max=1)
        return torch.exp(-5 * (1 - progress).square())


def _weights(networks: nn.Module) -> list[Tensor]:
    return [parameter.detach() for parameter in networks.parameters()]


def _float_state(networks: nn.Module) -> list[Tensor]:
    """Weights and BatchNorm statistics, without the counters of batches."""
    return [x.detach() for x in networks.state_dict().values() if x.is_floating_point()]
