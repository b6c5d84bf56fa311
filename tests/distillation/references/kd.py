"""Hinton et al. 2015."""

import functools
import pathlib

import numpy as np
import tensorflow as tf

from tests.distillation.formulas import Reference, Step, each

TEACHER = str(pathlib.Path(__file__).parents[3] / "savedmodels" / "digits_resnet8" / "1")


@functools.cache
def export() -> tf.Module:
    return tf.saved_model.load(TEACHER)


def kd_terms(s: Step, t: Step, parts: dict) -> dict:
    predict = export().signatures["serving_default"]
    targets = [np.float64(predict(tf.constant(v, tf.uint8))["logits"]) for v in s.views]
    return {"frozen_teacher": each(targets, s.logits)}


REFERENCES = {
    "kd": Reference(kd_terms, temperature=4, unstopped=frozenset({"frozen_teacher"})),
}
