"""What a batch becomes before networks see it: crops and mirror images, then Cut^nMix.

Images are `[B, C, H, W]`; each peer's view is a tensor of its own, so that none has to be cut
out of a larger one.
"""

import torch
from torch import Tensor
from torch.nn import functional


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
