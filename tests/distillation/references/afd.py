"""Chung et al. 2020."""

import numpy as np
from scipy.special import expit

from tests.distillation.formulas import Step, dense, mutual
from tf_cutnmix.distillation.method import Part


def discriminated(part: Part, k: int, maps: np.ndarray) -> np.ndarray:
    first, second = part.layers[k]
    hidden = dense(first, maps)
    return expit(dense(second, np.where(hidden > 0, hidden, 0.2 * hidden)).mean((1, 2, 3)))


def transferred(part: Part, k: int, s: Step) -> np.ndarray:
    transfer = part.transfers[k]
    return dense(transfer, s.stage2[k]) if transfer else s.stage2[k]


def afd(s: Step, t: Step, parts: dict) -> dict:
    part, adversary, discriminator = parts["discriminators"], 0.0, 0.0
    for k in range(len(s.logits)):
        adversary += np.mean((1 - discriminated(part, k, transferred(part, k, s))) ** 2)
        discriminator += np.mean((1 - discriminated(part, k, t.stage2[k - 1])) ** 2)
        discriminator += np.mean(discriminated(part, k, transferred(part, k, t)) ** 2)
    return {
        "mutual": mutual(s, t.logits),
        "adversary": 0.1 * adversary,
        "discriminator": 0.1 * discriminator,
    }
