"""Zhang et al. 2018."""

from tests.distillation.formulas import Step, mutual


def dml(s: Step, t: Step, parts: dict) -> dict:
    return {"mutual": mutual(s, t.logits)}
