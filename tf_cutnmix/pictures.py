"""Images side by side, for people to look at."""

import numpy as np

_SIDE = 96


def contact_sheet(images: np.ndarray) -> np.ndarray:
    """One picture of rows of images, each pixel enlarged so that small images can be seen.

    Args:
      images: `[rows, columns, H, W, 3]` uint8.

    Returns:
      `[height, width, 3]` uint8, white between the images.
    """
    scale = max(1, _SIDE // images.shape[2])
    images = images.repeat(scale, axis=2).repeat(scale, axis=3)
    border = ((0, 0), (0, 0), (2, 2), (2, 2), (0, 0))
    images = np.pad(images, border, constant_values=255)
    rows, columns, height, width, channels = images.shape
    return images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
