"""Song and Chai 2018."""

import numpy as np

from tests.distillation.formulas import Step, each, others


def cl_ilr(s: Step, t: Step, parts: dict) -> dict:
    n = len(s.logits)
    means = [np.mean([t.logits[j] for j in others(n, i)], 0) for i in range(n)]
    return {"consensus": each(means, s.logits)}
