"""Yang et al. 2022."""

import numpy as np
from scipy.special import log_softmax

from tests.distillation.formulas import BATCH, Step, dense, kd, others, unit
from tf_cutnmix.distillation.method import Part


def similarities(part: Part, s: Step) -> dict:
    embeddings = [
        unit(dense(second, np.maximum(dense(first, h), 0)))
        for (first, second), h in zip(part.heads, s.features, strict=True)
    ]
    peers = range(len(embeddings))
    return {(i, j): embeddings[i] @ embeddings[j].T / 0.1 for i in peers for j in peers}


def contrast(similar: np.ndarray, labels: np.ndarray) -> float:
    total = 0.0
    for a in range(BATCH):
        others = [b for b in range(BATCH) if b != a]
        positives = np.array([labels[a] @ labels[b] for b in others])
        if positives.sum() > 0:
            total -= positives @ log_softmax(similar[a, others]) / positives.sum()
    return total / BATCH


def mcl(s: Step, t: Step, parts: dict) -> dict:
    learns, stopped = (similarities(parts["embeddings"], x) for x in (s, t))
    n = len(s.logits)
    pairs = [(i, j) for i in range(n) for j in others(n, i)]
    return {
        "contrast_own": 0.1 * sum(contrast(learns[i, i], s.labels) for i in range(n)),
        "soft_own": sum(kd(stopped[j, j], learns[i, i]) for i, j in pairs),
        "contrast_between": 0.1 * sum(contrast(learns[pair], s.labels) for pair in pairs),
        "soft_between": sum(kd(stopped[j, i], learns[i, j]) for i, j in pairs),
    }
