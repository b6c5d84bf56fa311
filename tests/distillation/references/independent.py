"""No distillation."""

from tests.distillation.formulas import Step


def independent(s: Step, t: Step, parts: dict) -> dict:
    return {}
