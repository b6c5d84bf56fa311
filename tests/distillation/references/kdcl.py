"""Guo et al. 2020, in four variants."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from tests.distillation.formulas import BATCH, TEMPERATURE, Step, cross_entropy, kl, to_all
from tests.tiny_peers import CLASSES


def kdcl(s: Step, t: Step, parts: dict) -> dict:
    centred = [z - np.sum(s.labels * z, -1, keepdims=True) for z in t.logits]
    return {"ensemble": to_all(np.min(centred, 0), s)}


def kdcl_naive(s: Step, t: Step, parts: dict) -> dict:
    target = np.empty((BATCH, CLASSES))
    for b in range(BATCH):
        rows = [z[b] for z in t.logits]
        target[b] = min(rows, key=lambda row: -s.labels[b] @ log_softmax(row))
    return {"ensemble": to_all(target, s)}


def kdcl_linear(s: Step, t: Step, parts: dict) -> dict:
    n, logits = len(t.logits), np.stack(t.logits)
    best = minimize(
        lambda a: cross_entropy(s.labels, np.tensordot(a, logits, 1)),
        np.full(n, 1 / n),
        method="SLSQP",
        bounds=[(0, 1)] * n,
        constraints={"type": "eq", "fun": lambda a: a.sum() - 1},
        options={"ftol": 1e-12},
    )
    return {"ensemble": to_all(np.tensordot(best.x, logits, 1), s)}


def kdcl_general(s: Step, t: Step, parts: dict) -> dict:
    weights = np.float64(parts["held_out_weights"].weight)
    target = sum(w * softmax(z / TEMPERATURE, -1) for w, z in zip(weights, t.logits, strict=True))
    return {"ensemble": sum(kl(target, z) for z in s.logits)}
