"""How Keras compiles and fits a model whose loss is a method."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_cutnmix.distillation.callbacks import LearnHeldOut, StopAtDivergence
from tf_cutnmix.distillation.forward import HeldOutPart, Part
from tf_cutnmix.distillation.graphs import called_as_traced
from tf_cutnmix.distillation.guard import Guard
from tf_cutnmix.distillation.method import Method

_OWN = ("loss", "loss_weights", "metrics", "weighted_metrics")


class Trainer(keras.Model):
    """`compile` and `fit` of Keras, for a model that brings its loss and its metrics."""

    method: Method
    num_classes: int
    guard: Guard
    accuracy_metrics: Sequence[keras.metrics.Metric]
    parts: Sequence[Part]
    train_function: Any

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.compile`; a training that diverged may then begin anew.

        Raises:
          ValueError: a loss or metrics were passed.
        """
        given = _by_name(super().compile, args, kwargs)
        for name in _OWN:
            if given.get(name) is not None:
                raise ValueError(
                    f"{type(self).__name__} has a loss, its method, and metrics of its own: "
                    f"compile it without {name}, and measure other things on what it predicts"
                )
        super().compile(*args, **kwargs)
        self.guard.forget()

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        config = keras.saving.deserialize_keras_object(config)
        self.compile(**config)
        self.optimizer.build(self.trainable_variables)

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.fit`; raises `DivergenceError` when the loss is no longer finite."""
        given = _by_name(super().fit, args, kwargs)
        callbacks = given.pop("callbacks", None)
        own: list[keras.callbacks.Callback] = [StopAtDivergence()]
        for part in self.parts:
            if isinstance(part, HeldOutPart):
                given |= _held_out(given)
                own.append(LearnHeldOut(part, self.method.name, given.get("validation_data")))
        if isinstance(callbacks, keras.callbacks.CallbackList):
            for callback in own:
                callbacks.append(callback)
        else:
            callbacks = [*own, *keras.tree.flatten(callbacks or [])]
            for callback in callbacks:
                _set_mode(callback)
        return super().fit(**given, callbacks=callbacks)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.train_on_batch`; raises `DivergenceError` as `fit` does."""
        logs = super().train_on_batch(*args, **kwargs)
        self.check_finite()
        return logs

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.predict`; of no images no rows."""
        try:
            return super().predict(*args, **kwargs)
        except UnboundLocalError as error:
            if "batch_outputs" not in str(error):
                raise
            # Keras asks what the last batch was, and there was none.
            return np.zeros((0, self.num_classes), np.float32)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.evaluate`; raises `ValueError` if there are no images.

        So it does if a weight of a sample is not finite.
        """
        figures = super().evaluate(*args, **kwargs)
        if not figures:
            raise ValueError("there is nothing to evaluate: pass at least one labelled image")
        self._check_weights()
        return figures

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.test_on_batch`; raises `ValueError` as `evaluate` does."""
        figures = super().test_on_batch(*args, **kwargs)
        self._check_weights()
        return figures

    def make_train_function(self, force: bool = False) -> None:
        if self.train_function is not None and not force:
            return
        if not self.optimizer.built:
            # Were it to make its variables inside the step, TensorFlow would trace that twice.
            self.optimizer.build(self.trainable_variables)
        super().make_train_function(force)
        if not self.jit_compile:
            self.train_function = called_as_traced(self.train_function)

    def _check_weights(self) -> None:
        # An accuracy is a mean of zeros and ones.
        if any(np.isnan(metric.result()) for metric in self.accuracy_metrics):
            raise ValueError("the weight of a sample is not finite: pass finite ones")

    def check_finite(self) -> None:
        """Raise `DivergenceError`, with the step and the term, if a step was not finite."""
        self.guard.check()


def _by_name(function: Callable, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by the names that the function has for them."""
    return dict(inspect.signature(function).bind(*args, **kwargs).arguments)


def _held_out(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `fit` with `validation_split` made a set, which Keras keeps to itself."""
    split = given.get("validation_split")
    if not split or given.get("validation_data") is not None:
        return {}
    names = [name for name in ("x", "y", "sample_weight") if given.get(name) is not None]
    if len(names) < 2 or isinstance(given["x"], tf.data.Dataset | keras.utils.PyDataset):
        return {}
    start = int(len(given["x"]) * (1 - split))  # Keras holds out the last part, too
    return {
        **{name: given[name][:start] for name in names},
        "validation_data": tuple(given[name][start:] for name in names),
        "validation_split": 0.0,
    }


def _set_mode(callback: keras.callbacks.Callback) -> None:
    """More accuracy is better: Keras looks for that among the metrics of `compile` alone."""
    monitor = getattr(callback, "monitor", None)
    if getattr(callback, "mode", None) == "auto" and str(monitor).endswith("accuracy"):
        callback.mode = "max"
