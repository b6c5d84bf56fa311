"""No distillation."""

from tests.distillation.formulas import Reference, Step


def independent_terms(s: Step, t: Step, parts: dict) -> dict:
    return {}


REFERENCES = {
    "independent": Reference(independent_terms, temperature=3),
}
