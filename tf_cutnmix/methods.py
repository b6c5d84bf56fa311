"""A method of online distillation is a named list of terms.

A new term is a function of a `Forward` and a place in a method's list; a new method is a
function from its settings to such a list, and a place in `METHODS`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tf_cutnmix import losses
from tf_cutnmix.errors import unknown


class Forward(NamedTuple):
    """What one step computed for `n` peers: all that a term may use.

    Attributes:
      labels: `[B, K]` float32, mixed.
      logits: of each peer, `[B, K]`.
      features: of each peer, `[B, D_k]`.
      adapted: for each pair (k, j), k != j, peer k's features in peer j's size, `[B, D_j]`.
      teacher_logits: of each averaged peer on its peer's view, `[B, K]`; no gradient.
    """

    labels: tf.Tensor
    logits: Sequence[tf.Tensor]
    features: Sequence[tf.Tensor]
    adapted: Mapping[tuple[int, int], tf.Tensor]
    teacher_logits: Sequence[tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Term:
    """One named part of the loss.

    Attributes:
      name: what it is called in the logs.
      loss: from a `Forward` to a scalar.
      weight: that the scalar is multiplied by.
      ramped: whether it grows to its weight over the first steps.
      uses_teacher: whether it needs `Forward.teacher_logits`.
      uses_adapters: whether it needs `Forward.adapted`.
    """

    name: str
    loss: Callable[[Forward], tf.Tensor]
    weight: float = 1.0
    ramped: bool = False
    uses_teacher: bool = False
    uses_adapters: bool = False


@dataclasses.dataclass(frozen=True)
class Method:
    """A method by name, with the settings that its terms share.

    Attributes:
      name: a key of `METHODS`.
      teacher_weight: of the teacher term, 0 or more; 0 switches it off.
      feature_weight: of the feature term, likewise.
      temperature: above 0.
      ramp_steps: over how many steps ramped terms grow, 0 or more.

    Raises:
      InputError: there is no such method.
      ValueError: a setting is out of range.
    """

    name: str = "cutnmix"
    teacher_weight: float = 1.0
    feature_weight: float = 1.0
    temperature: float = 3.0
    ramp_steps: int = 0

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise unknown("--method", self.name, METHODS)
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0. Received: {self.temperature}")
        for setting in ("teacher_weight", "feature_weight", "ramp_steps"):
            if not getattr(self, setting) >= 0:
                raise ValueError(f"{setting} must be 0 or more. Received: {getattr(self, setting)}")

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms that are not switched off."""
        return tuple(term for term in METHODS[self.name](self) if term.weight)

    @property
    def uses_teacher(self) -> bool:
        return any(term.uses_teacher for term in self.terms)

    @property
    def uses_adapters(self) -> bool:
        return any(term.uses_adapters for term in self.terms)

    def loss(self, forward: Forward, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """The terms of the loss at one step, by name; their sum is the loss."""
        ramp = losses.ramp(step, self.ramp_steps)
        return {
            term.name: term.weight * (ramp if term.ramped else 1.0) * term.loss(forward)
            for term in self.terms
        }

    def get_config(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def independent(method: Method) -> list[Term]:
    """Peers trained side by side: `sum_k CE(y, z_k)`."""
    return [Term("cross_entropy", peers_cross_entropy)]


def cutnmix(method: Method) -> list[Term]:
    """Cross-entropy, the self-ensemble teacher and feature-level mutual learning."""
    return [
        *independent(method),
        Term(
            "teacher",
            lambda forward: teacher_distillation(forward, method.temperature),
            method.teacher_weight,
            ramped=True,
            uses_teacher=True,
        ),
        Term(
            "feature",
            mutual_features,
            method.feature_weight,
            ramped=True,
            uses_adapters=True,
        ),
    ]


METHODS = {"independent": independent, "cutnmix": cutnmix}


def peers_cross_entropy(forward: Forward) -> tf.Tensor:
    """`sum_k CE(y, z_k)`."""
    return tf.add_n([losses.cross_entropy(forward.labels, logits) for logits in forward.logits])


def teacher_distillation(forward: Forward, temperature: float) -> tf.Tensor:
    """`sum_k T^2 KL(q || softmax(z_k / T))`, q the mean softened prediction of the averaged peers.

    Each averaged peer saw its peer's view, so q averages over views as well as over weights.
    """
    softened = [losses.soften(logits, temperature) for logits in forward.teacher_logits]
    target = tf.add_n(softened) / len(softened)
    return tf.add_n([losses.distillation(target, z, temperature) for z in forward.logits])


def mutual_features(forward: Forward) -> tf.Tensor:
    """`sum_k mean_{j != k} |unit(A_kj f_k) - unit(f_j)|^2`; 0 for a single peer.

    The targets are the peers' own features, without gradient: the adapters `A_kj` cannot
    bring the distance down by mapping everything to one point.
    """
    if not forward.adapted:
        return tf.constant(0.0)
    distances = [
        losses.feature_distance(adapted, forward.features[j])
        for (_, j), adapted in forward.adapted.items()
    ]
    return tf.add_n(distances) / (len(forward.features) - 1)
