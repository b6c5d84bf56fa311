"""Our reading of Shen et al. 2022."""

import numpy as np
from scipy.special import softmax

from tests.distillation.formulas import TEMPERATURE, Step, dense, kl, mutual, others, unit


def cutnmix(s: Step, t: Step, parts: dict) -> dict:
    part = parts["feature_adapters"]
    adapter = dict(zip(part.pairs, part.adapters, strict=True))
    n, feature = len(s.logits), 0.0
    for k in range(n):
        distances = [
            np.sum((unit(dense(adapter[k, j], s.features[k])) - unit(t.features[j])) ** 2, -1)
            for j in others(n, k)
        ]
        feature += np.mean(distances)
    teacher = np.mean([softmax(z / TEMPERATURE, -1) for z in t.averages], 0)
    return {
        "teacher": sum(kl(teacher, z) for z in s.logits),
        "feature": 0.1 * feature,
        "mutual": mutual(s, t.logits),
    }
