"""The optimizer of a run: SGD, its schedule, and slower learning below the classifiers."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

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
        pairs = zip(factors, grads, strict=True)
        # A variable that the loss does not depend on has no gradient.
        scaled = [None if gradient is None else factor * gradient for factor, gradient in pairs]
        super().apply(scaled, trainable_variables)


def build(
    config: Config, steps_per_epoch: int, backbone: Sequence[keras.Variable]
) -> keras.optimizers.Optimizer:
    """The optimizer of a run; `backbone` is what is below the classifiers."""
    settings: dict[str, Any] = {
        "learning_rate": _schedule(config, steps_per_epoch),
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


def _schedule(config: Config, steps_per_epoch: int) -> Any:
    """The learning rate, or its schedule: one after another where the run was made longer."""
    ends = [epoch * steps_per_epoch for epoch in config.stretches]
    starts = [0, *ends[:-1]]
    rates = [_schedule_over(config, e - s) for s, e in zip(starts, ends, strict=True)]
    if len(rates) == 1 or config.schedule == "constant":
        return rates[0]
    return _OneAfterAnother(rates, starts)


def _schedule_over(config: Config, steps: int) -> Any:
    rate = config.learning_rate
    if config.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(rate, steps)
    if config.schedule == "step":
        # Keras still uses the earlier rate at a boundary itself.
        boundaries = [steps // 2 - 1, steps * 3 // 4 - 1]
        rates = [rate, rate / 10, rate / 100]
        return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)
    return rate


class _OneAfterAnother(keras.optimizers.schedules.LearningRateSchedule):
    """Schedules that begin at given steps, each counting from its own."""

    def __init__(self, schedules: Sequence[Any], starts: Sequence[int]) -> None:
        self.schedules = schedules
        self.starts = starts

    def __call__(self, step: Any) -> tf.Tensor:
        pairs = zip(self.schedules, self.starts, strict=True)
        rates = [schedule(step - start) for schedule, start in pairs]
        begun = tf.reduce_sum(tf.cast(tf.cast(step, tf.int64) >= self.starts, tf.int32))
        return tf.gather(tf.stack(rates), begun - 1)
