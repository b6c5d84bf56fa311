"""The network of each peer: a ResNet for small images, padded and started as ours is."""

import itertools

from torch import Tensor, nn
from torch.nn import functional


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
