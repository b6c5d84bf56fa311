"""The optimizer of a run: its schedule, and slower learning below the classifiers."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_cutnmix.runs.config import Config


def build(
    config: Config,
    steps_per_epoch: int,
    weights: Sequence[keras.Variable],
    backbone: Sequence[keras.Variable],
) -> keras.optimizers.Optimizer:
    """The optimizer of a run.

    AdamW takes its weight decay, which for SGD is a term of the loss. It decays matrices and
    kernels alone, as timm and most recipes of fine-tuning do: a bias does not overfit, and a scale
    of BatchNormalization that is drawn to 0 takes away what the weights below it were trained for.

    Args:
      config: its settings, all with values.
      steps_per_epoch: of the run.
      weights: all that is trained.
      backbone: what is below the classifiers, trained or not.
    """
    rates: dict[str, Any] = {
        "learning_rate": _schedule(config, steps_per_epoch),
        "global_clipnorm": config.clip_norm or None,
    }
    if config.learning_rate_backbone is not None:
        rates["slow"] = backbone
        rates["factor"] = config.learning_rate_backbone / config.learning_rate
    if config.optimizer == "sgd":
        sgd = SlowSGD if "slow" in rates else keras.optimizers.SGD
        return sgd(momentum=config.momentum, nesterov=True, **rates)
    adamw = SlowAdamW if "slow" in rates else keras.optimizers.AdamW
    built = adamw(weight_decay=config.weight_decay, **rates)
    built.exclude_from_weight_decay(var_list=[v for v in weights if len(v.shape) < 2])
    return built


class _Slow:
    """An optimizer by which some variables learn at a part of the learning rate.

    They go a part of the way that the optimizer takes them, decay of weights included. A part of
    the gradient would not do: Adam divides by its size.

    Args:
      slow: these variables.
      factor: the part.
      **settings: of the optimizer.
    """

    def __init__(self, *, slow: Sequence[keras.Variable], factor: float, **settings: Any):
        super().__init__(**settings)
        self.slow = frozenset(id(variable) for variable in slow)  # paths are not unique
        self.factor = factor

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[keras.Variable]) -> None:
        slow = [variable for variable in trainable_variables if id(variable) in self.slow]
        before = [tf.identity(variable.value) for variable in slow]
        super().apply(grads, trainable_variables)  # type: ignore[misc]
        for variable, old in zip(slow, before, strict=True):
            variable.assign(old + self.factor * (variable.value - old))


class SlowSGD(_Slow, keras.optimizers.SGD):
    """SGD, slower for some variables."""


class SlowAdamW(_Slow, keras.optimizers.AdamW):
    """AdamW, slower for some variables."""


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
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    if config.schedule == "step":
        # Keras still uses the earlier rate at a boundary itself.
        boundaries = [steps // 2 - 1, steps * 3 // 4 - 1]
        rates = [rate, rate / 10, rate / 100]
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)
    warmup = round(config.warmup * steps)
    return _Rising(rate, warmup) if warmup else rate


class _Rising(keras.optimizers.schedules.LearningRateSchedule):
    """A rate or a schedule to which the first steps rise, evenly; the last of them has it whole."""

    def __init__(self, schedule: Any, steps: int) -> None:
        self.schedule = schedule
        self.steps = steps

    def __call__(self, step: Any) -> tf.Tensor:
        rate = self.schedule(step) if callable(self.schedule) else self.schedule
        return rate * tf.minimum((tf.cast(step, tf.float32) + 1) / self.steps, 1.0)


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
