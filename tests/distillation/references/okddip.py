"""Chen et al. 2020."""

import numpy as np
from scipy.special import softmax

from tests.distillation.formulas import Step, dense, each, kd
from tf_cutnmix.distillation.method import Part


def attended(part: Part, s: Step) -> list:
    queries = [dense(part.query, h) for h in s.features[:-1]]
    keys = [dense(part.key, h) for h in s.features[:-1]]
    targets = []
    for query in queries:
        weights = softmax([np.sum(query * key, -1) for key in keys], 0)
        targets.append(sum(w[:, None] * z for w, z in zip(weights, s.logits[:-1], strict=True)))
    return targets


def okddip(s: Step, t: Step, parts: dict) -> dict:
    # The targets are not stopped: they are made of the step that learns.
    return {
        "attention": each(attended(parts["attention"], s), s.logits[:-1]),
        "leader": kd(np.mean(s.logits[:-1], 0), s.logits[-1]),
    }
