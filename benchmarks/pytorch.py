"""Our train step as a good PyTorch program: the peer in the benchmarks. Needs torch and numpy.

The work is that of `tf_cutnmix.OnlineDistiller` with `resnet<6n+2>` peers: crops and mirror
images, Cut^nMix, n peers, n averaged peers, feature adapters, the terms of the loss, SGD with
coupled weight decay, moving averages. What differs, to PyTorch's advantage or without effect:
no check for values that are not finite, no means of the terms over the epoch, no measure of
the boxes' overlap; `running_var` is the unbiased variance, where Keras keeps the biased one.

Images are `[B, C, H, W]` in channels_last memory, which cuDNN and oneDNN are fastest with. Each
peer's view is a tensor of its own, so that none has to be cut out of a larger one. Draws come
from PyTorch's global generators, see `torch.manual_seed`; a generator passed by hand could be
neither compiled nor captured in a CUDA graph.
"""

import copy
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.utils.data
from torch import Tensor, nn
from torch.nn import functional

METHODS = ("independent", "cutnmix")
COMPILE_MODES = ("default", "reduce-overhead")
PRECISIONS = ("float32", "bfloat16")


class ResNet(nn.Module):
    """`resnet<6n+2>` of He et al. 2015 for small images, with shortcuts of option A.

    Args:
      depth: 6n+2, such as 20, 32, 56, 110.
      num_classes: 2 or more.
      mean: of the pixels, in [0, 255].
      deviation: standard deviation of the pixels.

    Call it with pixels `[B, 3, H, W]` in [0, 255], any dtype; returns features `[B, 64]` and
    logits `[B, K]`.

    Raises:
      ValueError: the depth is not 6n+2.
    """

    def __init__(
        self, depth: int, num_classes: int = 10, mean: float = 127.5, deviation: float = 63.75
    ) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth must be 6n+2, such as 20 or 32. Received: depth={depth}")
        self.mean = mean
        self.deviation = deviation
        self.stem = Convolution(3, 16)
        widths = [16] * (blocks + 1) + [32] * blocks + [64] * blocks
        self.blocks = nn.Sequential(*(Block(into, out) for into, out in itertools.pairwise(widths)))
        self.head = nn.Linear(64, num_classes)
        nn.init.kaiming_normal_(self.head.weight, nonlinearity="relu")
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = (images.float() - self.mean) / self.deviation
        x = self.blocks(functional.relu(self.stem(x)))
        features = x.mean(dim=(2, 3))
        return features, self.head(features)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut; strides of 2 where the number of filters changes."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.strides = 1 if into == out else 2
        self.new = out - into
        self.first = Convolution(into, out, self.strides)
        self.second = Convolution(out, out)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.second(functional.relu(self.first(x)))
        if self.strides > 1:
            before = self.new // 2
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.new - before))
        return functional.relu(inside + x)


class Convolution(nn.Module):
    """A 3x3 convolution and BatchNorm, padded as TensorFlow's "same" is."""

    def __init__(self, into: int, out: int, strides: int = 1) -> None:
        super().__init__()
        self.strides = strides
        padding = 1 if strides == 1 else 0
        self.convolution = nn.Conv2d(into, out, 3, strides, padding, bias=False)
        self.normalise = nn.BatchNorm2d(out, eps=1e-5, momentum=0.1)
        nn.init.kaiming_normal_(self.convolution.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        if self.strides > 1:
            # Of even sides TensorFlow pads the far end alone, which no argument of Conv2d does.
            height, width = (side % 2 for side in x.shape[2:])
            x = functional.pad(x, (width, 1, height, 1))
        return self.normalise(self.convolution(x))


def crop_and_flip(images: Tensor, padding: int = 4) -> Tensor:
    """Random crops of the zero-padded image, then mirror images of one in two.

    Args:
      images: `[B, C, H, W]`, any dtype.
      padding: of each side, in pixels.

    Returns:
      Images of the same shape and dtype, in channels_last memory.
    """
    batch, _, height, width = images.shape
    device = images.device
    padded = functional.pad(images, (padding,) * 4)
    top, left = torch.randint(0, 2 * padding + 1, (2, batch, 1), device=device)
    mirrored = torch.randint(0, 2, (batch, 1), device=device, dtype=torch.bool)
    across = torch.arange(width, device=device)
    rows = torch.arange(height, device=device) + top
    columns = torch.where(mirrored, width - 1 - across, across) + left
    sample = torch.arange(batch, device=device)
    seen = padded.permute(0, 2, 3, 1)[sample[:, None, None], rows[:, :, None], columns[:, None, :]]
    return seen.permute(0, 3, 1, 2)


def cutnmix(
    images: Tensor, labels: Tensor, num_peers: int = 2, alpha: float = 1.0
) -> tuple[list[Tensor], Tensor]:
    """Cut^nMix: one ratio, partner and size of the box per sample, each peer's box elsewhere.

    Args:
      images: `[B, C, H, W]`, any dtype.
      labels: `[B, K]` float32.
      num_peers: views to make; 1 is CutMix with a ratio per sample.
      alpha: ratios are drawn from Beta(alpha, alpha), above 0.

    Returns:
      A view `[B, C, H, W]` for each peer, of the same dtype; labels `[B, K]`, mixed by the
      number of pixels that were pasted.
    """
    batch, _, height, width = images.shape
    device = images.device
    concentration = torch.full((batch, 2), alpha, device=device)
    ratio = torch.distributions.Dirichlet(concentration, validate_args=False).sample()[:, 0]
    partner = torch.rand(batch, device=device).argsort()
    side = (1 - ratio).clamp(min=0).sqrt()
    box_height, box_width = (side * height).round(), (side * width).round()
    top = (torch.rand(num_peers, batch, device=device) * (height - box_height + 1)).floor()
    left = (torch.rand(num_peers, batch, device=device) * (width - box_width + 1)).floor()

    rows = _between(torch.arange(height, device=device), top, box_height)
    columns = _between(torch.arange(width, device=device), left, box_width)
    pasted = rows[:, :, None, :, None] & columns[:, :, None, None, :]  # (n, B, 1, H, W)
    partners = images[partner]
    views = [torch.where(inside, partners, images) for inside in pasted]
    area = (box_height * box_width / (height * width))[:, None]
    return views, (1 - area) * labels + area * labels[partner]


def _between(positions: Tensor, start: Tensor, length: Tensor) -> Tensor:
    return (positions >= start[..., None]) & (positions < (start + length)[..., None])


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
        self.optimizer = _sgd(trained, learning_rate, weight_decay)
        state = _weights if self.teaches else _float_state
        self._averaged, self._followed = state(self.averages), state(self.peers)
        # On a CPU compiled views take five times as long as the plain operations (measured).
        on_gpu = torch.device(device).type == "cuda"
        self._views = _compiled(self.make_views, compile_mode if on_gpu else None)
        self._losses = _compiled(self.losses, compile_mode)

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
        _minimise(terms["loss"], self.optimizer)
        memory = max(1 / (self.taken + 1), 1 - self.average_momentum)
        torch._foreach_lerp_(self._averaged, self._followed, memory)
        self.step_on_device.add_(1)
        self.taken += 1
        return _kept(terms, self.compile_mode)

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
        with _autocast(views[0].device, self.precision):
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
            terms["feature"] = ramp * self._feature_term([f for f, _ in outputs], adapted)
        return {"loss": sum(terms.values()), **terms}

    def _teacher_term(self, views: list[Tensor], logits: list[Tensor]) -> Tensor:
        """`sum_k T^2 KL(q || softmax(z_k / T))`, q the mean over the averaged peers."""
        with torch.no_grad(), _autocast(views[0].device, self.precision):
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
        self.optimizer = _sgd(list(self.parameters()), learning_rate, weight_decay)
        self._losses = _compiled(self.losses, compile_mode)

    def step(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """One training step, arguments and result as of `Distiller.step`."""
        if self.compile_mode == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        terms = self._losses(images, labels)
        _minimise(terms["loss"], self.optimizer)
        return _kept(terms, self.compile_mode)

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The cross-entropy, as "loss"."""
        with _autocast(images.device, self.precision):
            _, logits = self.network(images)
        return {"loss": functional.cross_entropy(logits.float(), labels)}


def _sgd(weights: list[nn.Parameter], learning_rate: float, decay: float) -> torch.optim.SGD:
    return torch.optim.SGD(
        weights, learning_rate, momentum=0.9, weight_decay=decay, nesterov=True, fused=True
    )


def _weights(networks: nn.Module) -> list[Tensor]:
    return [parameter.detach() for parameter in networks.parameters()]


def _float_state(networks: nn.Module) -> list[Tensor]:
    """Weights and BatchNorm statistics, without the counters of batches."""
    return [x.detach() for x in networks.state_dict().values() if x.is_floating_point()]


def _compiled(function: Callable, mode: str | None) -> Callable:
    if mode is None:
        return function
    if mode not in COMPILE_MODES:
        raise ValueError(f"compile_mode must be None or one of {COMPILE_MODES}. Received: {mode!r}")
    return torch.compile(function, mode=mode, fullgraph=True, dynamic=False)


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}. Received: {precision!r}")
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def _minimise(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def _kept(terms: dict[str, Tensor], mode: str | None) -> dict[str, Tensor]:
    """The terms without their history, and apart from what a CUDA graph writes over."""
    terms = {name: term.detach() for name, term in terms.items()}
    return {k: t.clone() for k, t in terms.items()} if mode == "reduce-overhead" else terms


class AugmentedImages(torch.utils.data.Dataset):
    """Images in memory that are cropped and mirrored one by one, as tutorials have it.

    Args:
      images: `[N, H, W, 3]` uint8.
      labels: `[N]` integers.
      padding: of each side, in pixels.

    An item is an image `[3, H, W]` uint8 and its class, an int.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, padding: int = 4) -> None:
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        self.labels = torch.from_numpy(labels.astype(np.int64))
        self.padding = padding

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        _, height, width = image.shape
        top, left = torch.randint(0, 2 * self.padding + 1, (2,)).tolist()
        padded = functional.pad(image, (self.padding,) * 4)
        image = padded[:, top : top + height, left : left + width]
        if torch.rand(()) < 0.5:
            image = image.flip(-1)
        return image, int(self.labels[index])


def usual_batches(
    images: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    batch_size: int = 128,
    num_workers: int = 0,
    alpha: float = 1.0,
) -> torch.utils.data.DataLoader:
    """The usual pipeline: a shuffling `DataLoader`, transforms of single images, CutMix.

    CutMix is that of torchvision's recipe: done by the workers on whole batches, one ratio and
    one box for all images of a batch, each mixed with the one before it, the box clipped at
    the image's sides.

    Args:
      images: `[N, H, W, 3]` uint8.
      labels: `[N]` integers.
      num_classes: `K`.
      batch_size: the last batch of an epoch may be smaller.
      num_workers: processes; 0 works in this one.
      alpha: of Beta(alpha, alpha).

    Returns:
      An iterable over epochs' batches: images `[B, 3, H, W]` uint8, labels `[B, K]` float32.
    """
    return torch.utils.data.DataLoader(
        AugmentedImages(images, labels),
        batch_size,
        shuffle=True,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        collate_fn=CollateCutMix(num_classes, alpha),
    )


class CollateCutMix:
    """Makes a batch of items and mixes it, as torchvision's `CutMix` does."""

    def __init__(self, num_classes: int, alpha: float) -> None:
        self.num_classes = num_classes
        self.beta = torch.distributions.Beta(alpha, alpha)

    def __call__(self, items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        images, classes = torch.utils.data.default_collate(items)
        labels = functional.one_hot(classes, self.num_classes).float()
        height, width = images.shape[2:]
        half = 0.5 * (1 - float(self.beta.sample())) ** 0.5
        y, x = float(torch.rand(()) * height), float(torch.rand(()) * width)
        top, bottom = max(int(y - half * height), 0), min(int(y + half * height), height)
        left, right = max(int(x - half * width), 0), min(int(x + half * width), width)
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = images.roll(1, 0)[:, :, top:bottom, left:right]
        area = (bottom - top) * (right - left) / (height * width)
        return mixed, (1 - area) * labels + area * labels.roll(1, 0)


def fast_batches(
    images: Tensor,
    labels: Tensor,
    *,
    batch_size: int = 128,
    num_peers: int = 1,
    alpha: float = 1.0,
) -> Iterator[tuple[list[Tensor], Tensor]]:
    """One epoch of the fast pipeline: whole batches are taken, cropped, mirrored and mixed.

    Args:
      images: `[N, 3, H, W]` uint8, on any device, which does the work.
      labels: `[N, K]` float32, on the same device.
      batch_size: the last batch may be smaller.
      num_peers: views of each image.
      alpha: of Beta(alpha, alpha).

    Yields:
      A view `[B, 3, H, W]` uint8 for each peer, and labels `[B, K]` float32.
    """
    for chosen in torch.randperm(len(images), device=images.device).split(batch_size):
        yield cutnmix(crop_and_flip(images[chosen]), labels[chosen], num_peers, alpha)
