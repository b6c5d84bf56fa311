"""The optimizer of a run: SGD, its schedule, and slower learning below the classifiers."""

from collections.abc import Sequence
from typing import Any

import keras

from tf_cutnmix.runs.config import Config


class SlowSGD(keras.optimizers.SGD):
    """SGD by which some variables learn at a part of the learning rate.

    Args:
      slow: these variables.
      factor: the part.
      **settings: of `keras.optimizers.SGD`.
    """

    def __init__(self, *, slow: Sequence[keras.Variable], factor: float, **settings: Any):
        super().__init__(**settings)
        self.slow = frozenset(id(variable) for variable in slow)  # paths are not unique
        self.factor = factor

    def apply(
        self,
        grads: Sequence[Any],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        # Every step of SGD is linear in the gradient: a part of it is a part of the rate.
        factors = [self.factor if id(v) in self.slow else 1.0 for v in trainable_variables or ()]
        scaled = [factor * gradient for factor, gradient in zip(factors, grads, strict=True)]
        super().apply(scaled, trainable_variables)


def build(
    config: Config, steps: int, backbone: Sequence[keras.Variable]
) -> keras.optimizers.Optimizer:
    """The optimizer of a run of so many steps; `backbone` is what is below the classifiers."""
    settings: dict[str, Any] = {
        "learning_rate": _schedule(config, steps),
        "momentum": config.momentum,
        "nesterov": True,
    }
    if config.learning_rate_backbone is None:
        return keras.optimizers.SGD(**settings)
    return SlowSGD(
        slow=backbone,
        factor=config.learning_rate_backbone / config.learning_rate,
        **settings,
    )


def _schedule(config: Config, steps: int) -> Any:
    rate = config.learning_rate
    if config.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(rate, steps)
    if config.schedule == "step":
        # Keras still uses the earlier rate at a boundary itself.
        boundaries = [steps // 2 - 1, steps * 3 // 4 - 1]
        rates = [rate, rate / 10, rate / 100]
        return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)
    return rate
