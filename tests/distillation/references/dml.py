"""Zhang et al. 2018."""

from tests.distillation.formulas import Reference, Step, mutual


def dml_terms(s: Step, t: Step, parts: dict) -> dict:
    return {"mutual": mutual(s, t.logits)}


REFERENCES = {
    "dml": Reference(dml_terms, temperature=1),
}
