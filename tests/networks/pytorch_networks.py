"""PyTorch's networks whose checkpoints we read, with the names of modules of the public code."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def random_network(name: str) -> nn.Module:
    """One that ours of a name is, of 10 classes, in evaluation, nothing in it 0 or 1."""
    torch.manual_seed(0)
    network = _NETWORKS[name]().eval()
    for parameter, value in network.state_dict().items():
        if value.ndim > 1:
            nn.init.kaiming_normal_(value)
        elif value.ndim:
            low = 0.5 if parameter.endswith(("running_var", "weight")) else -0.2
            nn.init.uniform_(value, low, low + 0.5)
    return network


def convolution(before: int, filters: int, size: int = 3, strides: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, filters, size, strides, size // 2, bias=False)


class Block(nn.Module):
    """Of akamaster's ResNet, or chenyaofo's if it projects."""

    def __init__(self, before: int, width: int, strides: int, project: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(before, width, 3, strides), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = convolution(width, width), nn.BatchNorm2d(width)
        self.downsample = None
        if project and before != width:
            projection = convolution(before, width, 1, strides)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        inside = functional.relu(self.bn1(self.conv1(x)))
        inside = self.bn2(self.conv2(inside))
        if self.downsample:
            x = self.downsample(x)
        elif inside.shape != x.shape:
            pad = (inside.shape[1] - x.shape[1]) // 2
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, pad, pad))
        return functional.relu(inside + x)


class ResNet14(nn.Module):
    def __init__(self, project: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = convolution(3, 16), nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16, 1, project) for _ in range(2)))
        self.layer2 = nn.Sequential(Block(16, 32, 2, project), Block(32, 32, 1, project))
        self.layer3 = nn.Sequential(Block(32, 64, 2, project), Block(64, 64, 1, project))
        self.add_module("fc" if project else "linear", nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x))).mean((2, 3))
        return self.fc(x) if hasattr(self, "fc") else self.linear(x)


class WideBlock(nn.Module):
    """Of xternalz' WideResNet."""

    def __init__(self, before: int, width: int, strides: int = 1) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(before), convolution(before, width, 3, strides)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), convolution(width, width)
        same = before == width
        self.convShortcut = None if same else convolution(before, width, 1, strides)

    def forward(self, x: Tensor) -> Tensor:
        inside = functional.relu(self.bn1(x))
        shortcut = self.convShortcut(inside) if self.convShortcut else x
        return self.conv2(functional.relu(self.bn2(self.conv1(inside)))) + shortcut


class WideResNet16(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = convolution(3, 16)
        for number, width in enumerate((32, 64, 128), start=1):
            before = 16 if number == 1 else width // 2
            blocks = WideBlock(before, width, min(number, 2)), WideBlock(width, width)
            block = nn.ModuleDict({"layer": nn.Sequential(*blocks)})
            self.add_module(f"block{number}", block)
        self.bn1, self.fc = nn.BatchNorm2d(128), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        for block in (self.block1, self.block2, self.block3):
            x = block["layer"](x)
        return self.fc(functional.relu(self.bn1(x)).mean((2, 3)))


class VGG11(nn.Module):
    """kuangliu's, or chenyaofo's if it has hidden layers."""

    def __init__(self, hidden: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):
            if width:
                found = nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
                layers, before = [*layers, *found], width
            else:
                layers.append(nn.MaxPool2d(2))
        self.features, last = nn.Sequential(*layers), nn.Linear(512, 10)
        inside = [part for _ in range(2) for part in (nn.Linear(512, 512), nn.ReLU(), nn.Dropout())]
        self.classifier = nn.Sequential(*inside, last) if hidden else last

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class DenseLayer(nn.Module):
    def __init__(self, before: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(before), convolution(before, 128, 1)
        self.norm2, self.conv2 = nn.BatchNorm2d(128), convolution(128, 32)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.conv1(functional.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(functional.relu(self.norm2(inside)))], 1)


class DenseNet121(nn.Module):
    """torchvision's."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
        add, width = self.features.add_module, 64
        add("conv0", nn.Conv2d(3, width, 7, 2, 3, bias=False))
        add("norm0", nn.BatchNorm2d(width))
        add("relu0", nn.ReLU())
        add("pool0", nn.MaxPool2d(3, 2, 1))
        for number, count in enumerate((6, 12, 24, 16), start=1):
            block = nn.Sequential()
            for layer in range(count):
                block.add_module(f"denselayer{layer + 1}", DenseLayer(width + 32 * layer))
            add(f"denseblock{number}", block)
            width += 32 * count
            if number < 4:
                transition = nn.Sequential()
                transition.add_module("norm", nn.BatchNorm2d(width))
                transition.add_module("relu", nn.ReLU())
                transition.add_module("conv", convolution(width, width // 2, 1))
                transition.add_module("pool", nn.AvgPool2d(2))
                add(f"transition{number}", transition)
                width //= 2
        add("norm5", nn.BatchNorm2d(width))
        self.classifier = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(functional.relu(self.features(x)).mean((2, 3)))


_NETWORKS = {
    "resnet14": lambda: ResNet14(project=False),
    "resnet14_projection": lambda: ResNet14(project=True),
    "wrn16_2": WideResNet16,
    "vgg11": lambda: VGG11(hidden=True),
    "vgg11_linear": lambda: VGG11(hidden=False),
    "keras_densenet121": DenseNet121,
}
