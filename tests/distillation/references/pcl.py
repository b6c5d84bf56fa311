"""Wu and Gong 2021."""

import numpy as np

from tests.distillation.formulas import Step, cross_entropy, dense, mutual, to_all
from tf_cutnmix.distillation.method import Part


def classified(part: Part, s: Step) -> np.ndarray:
    return dense(part.dense, np.concatenate(s.features, -1))


def pcl(s: Step, t: Step, parts: dict) -> dict:
    part = parts["feature_classifier"]
    return {
        "feature_classifier_cross_entropy": cross_entropy(s.weighted, classified(part, s)),
        "feature_classifier": to_all(classified(part, t), s),
        "teacher": mutual(s, t.averages),
    }
