"""Kim et al. 2019."""

import numpy as np
from scipy.signal import correlate2d

from tests.distillation.formulas import BATCH, Step, batch_norm, cross_entropy, dense, kd, to_all
from tf_cutnmix.distillation.method import Part


def fused(part: Part, s: Step) -> np.ndarray:
    depthwise, first_norm, _, pointwise, second_norm, _, _, classifier = part.fuse.layers
    maps = np.concatenate(s.stage2, -1)
    kernel = np.float64(depthwise.get_weights()[0])
    filtered = np.empty_like(maps)
    for sample in range(BATCH):
        for channel in range(maps.shape[-1]):
            image, weights = maps[sample, ..., channel], kernel[..., channel, 0]
            filtered[sample, ..., channel] = correlate2d(image, weights, mode="same")
    x = np.maximum(batch_norm(first_norm, filtered), 0) @ np.float64(
        pointwise.get_weights()[0][0, 0]
    )
    return dense(classifier, np.maximum(batch_norm(second_norm, x), 0).mean((1, 2)))


def ffl(s: Step, t: Step, parts: dict) -> dict:
    fusion = parts["fusion"]
    return {
        "fusion_cross_entropy": cross_entropy(s.weighted, fused(fusion, s)),
        "fusion": to_all(fused(fusion, t), s),
        "ensemble": kd(np.mean(t.logits, 0), fused(fusion, s)),
    }
