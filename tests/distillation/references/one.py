"""Lan et al. 2018."""

import numpy as np
from scipy.special import softmax

from tests.distillation.formulas import Step, batch_norm, cross_entropy, dense, to_all
from tf_cutnmix.distillation.method import Part


def gated(part: Part, s: Step) -> np.ndarray:
    shared = np.mean([maps.mean((1, 2)) for maps in s.stage1], 0)
    scores = np.maximum(batch_norm(part.normalise, dense(part.dense, shared)), 0)
    weights = softmax(scores, -1)
    return sum(weights[:, [k]] * logits for k, logits in enumerate(s.logits))


def one(s: Step, t: Step, parts: dict) -> dict:
    gate = parts["gate"]
    return {
        "gate_cross_entropy": cross_entropy(s.weighted, gated(gate, s)),
        "gate": to_all(gated(gate, t), s),
    }
