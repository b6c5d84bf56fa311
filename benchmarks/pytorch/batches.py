"""Input pipelines: the usual one, image by image, and the fast one, batch by batch."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.utils.data
from torch import Tensor
from torch.nn import functional

from benchmarks.pytorch.views import crop_and_flip, cutnmix


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
