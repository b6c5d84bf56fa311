"""Several networks trained together, each other's teachers: `OnlineDistiller`."""

import contextlib
import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_cutnmix.distillation import losses, teacher
from tf_cutnmix.distillation.guard import Brightness, Guard, checked
from tf_cutnmix.distillation.method import (
    Forward,
    HeldOutPart,
    Memory,
    Method,
    StepResult,
    losses_at,
    parts_of,
    ramp_at,
)
from tf_cutnmix.distillation.peers import adds_losses, check_peers, variables_of
from tf_cutnmix.distillation.replicas import MEAN, SUM, Replicas
from tf_cutnmix.distillation.views import MixedBatch, Views, unpack
from tf_cutnmix.mixing.batch import has_label, require, soft_labels, weigh
from tf_cutnmix.mixing.sampling import overlap
from tf_cutnmix.networks import sharing

_OWN = ("loss", "loss_weights", "metrics", "weighted_metrics")


@keras.saving.register_keras_serializable("tf_cutnmix")
class OnlineDistiller(keras.Model):
    """Peers, their feature adapters and their moving averages, trained in one step.

    ```python
    peers = [build_network("resnet20", (32, 32, 3), 10) for _ in range(2)]
    model = OnlineDistiller(peers, CutNMix(num_peers=2, num_classes=10), "cutnmix")
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True))
    model.fit(images, labels, batch_size=128, epochs=10)
    model.predict(images)  # the teacher's probabilities, [N, 10]
    ```

    The teacher is the mean prediction of the averaged peers; while these teach, they normalise by
    the batch, see `teacher`. `predict` and calling the model give the teacher's probabilities;
    `evaluate` gives the accuracy of the teacher, of the peers' ensemble, of each peer and each
    averaged peer, and the teacher's negative log likelihood as `loss`. `fit` logs the loss and its
    terms, among them what layers add by themselves (`peers_losses`), with `CutNMix` the mean
    `region_overlap` of the boxes, and the `ramp` where terms follow the peers' fit.

    The method is the loss: `compile` takes an optimizer and how to run, no loss and no
    metrics. `fit` takes `sample_weight` and `class_weight`: they weigh the cross-entropies to the
    labels, a mixed sample's as its label is mixed. `evaluate` counts samples by their weights
    as Keras does: the loss is the mean of `weight * loss`, an accuracy the weighted mean. Should a
    term or a gradient stop being finite, that step and all after it change nothing, and `fit`
    raises. A label that is none is a `ValueError`; training on pixels of 0 to 1 where peers expect
    0 to 255 a warning.

    A row of labels that is all zero is that of an image without a label, anywhere in a batch, see
    `join_unlabelled`. Cross-entropies are means over the labelled rows, and `evaluate` leaves the
    others out. Mixing pairs labelled images with labelled ones, and others with others. What else
    is learnt from these is for the method: `Method("cutnmix", unlabelled=True)`.

    Args:
      peers: models from images `[B, H, W, C]` to `{"features": [B, D_k], "logits": [B, K]}`;
        their architectures may differ. The model trains these very objects. They may share
        stages, see `share_stages`.
      mixing: a layer of `tf_cutnmix.mixing`, or None. Views `[B, n, H, W, C]` go one to each
        peer, plain batches `[B, H, W, C]` to all of them.
      method: a `Method`, or the name of one with its default settings.
      augment: a layer that is called as `augment(images, training=True, step=step)` before
        mixing, or None.
      own_views: whether each peer gets an augmentation of its own; None for what the method's
        paper does.
      momentum: the largest momentum of the moving average, in [0, 1).
      weight_decay: adds `weight_decay / 2 * |w|^2` over all trained weights to the loss.
      strategy: `tf.distribute.MirroredStrategy` or `MultiWorkerMirroredStrategy`, over whose
        devices each batch is spread, see `Replicas`; None for one device. It is not saved.

    Raises:
      ValueError: the peers, or the peers and the mixing, do not fit together.
    """

    train_function: Any

    def __init__(
        self,
        peers: Sequence[keras.Model],
        mixing: keras.layers.Layer | None = None,
        method: Method | str = "cutnmix",
        *,
        augment: keras.layers.Layer | None = None,
        own_views: bool | None = None,
        momentum: float = 0.999,
        weight_decay: float = 0.0,
        strategy: tf.distribute.Strategy | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.replicas = Replicas(strategy)
        self.supports_jit = self.replicas.count == 1  # XLA knows no other devices
        self.num_classes = check_peers(peers)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1. Received: {momentum}")
        if not 0 <= weight_decay < float("inf"):
            raise ValueError(f"weight_decay must be 0 or more. Received: {weight_decay}")
        self.method = method if isinstance(method, Method) else Method(method)
        self.terms = self.method.terms(peers)
        self.parts = parts_of(self.terms)
        self.peers = list(peers)
        self.averages = teacher.averaged_copies(peers)
        self.brightness = Brightness(peers)
        self.run_peers = sharing.Together(self.peers)
        self.run_averages = sharing.Together(self.averages)
        self.mixing: Any = mixing
        self.augment: Any = augment
        self.own_views = self.method.recipe.own_views if own_views is None else own_views
        self._unmixed = any(term.unmixed for term in self.terms)
        known = self._unmixed or self.method.unlabelled
        self._views = Views(augment, mixing, len(peers), self.own_views, known)
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.step = self._counter("step", 0)
        self.failed_step = self._counter("failed_step", -1)
        self.failed_term = self._counter("failed_term", -1)

        own = ["peers_losses"] * adds_losses(peers) + ["weight_decay"] * (weight_decay > 0)
        self.term_names = [*(term.name for term in self.terms), *own]
        self.guard = Guard(self.term_names, self.failed_step, self.failed_term)
        overlaps = ["region_overlap"] * self._views.boxes_differ
        follows_fit = bool(self.method.fit) and any(term.ramped for term in self.terms)
        logged = ("loss", *self.term_names, *overlaps, *["ramp"] * follows_fit)
        self.step_metrics = [keras.metrics.Mean(name) for name in logged]
        self.accuracy_metrics = [
            keras.metrics.SparseCategoricalAccuracy(f"{name}_accuracy")
            for name in ("teacher", "ensemble", *self.networks)
        ]
        self.built = True

    def _counter(self, name: str, value: int) -> keras.Variable:
        initializer = keras.initializers.Constant(value)
        return self.add_weight((), initializer, "int64", trainable=False, name=name)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, labels, sample_weights = unpack(data, self.num_classes)
        self.brightness.observe(images)
        labels = soft_labels(labels, self.num_classes)
        step = tf.identity(self.step.value)
        mixed = self.make_views(images, labels, step)
        weighted = self._weighted_labels(mixed, labels, sample_weights)
        mix = functools.partial(self._views.mix_labels, mixed=mixed)
        forward = Forward(step, mixed.labels, mixed.views, (), mix=mix, weighted_labels=weighted)
        teach = any(term.uses_averages for term in self.terms)
        taught_on = (mixed.unmixed if self._unmixed else mixed.views) if teach else []
        pairs = zip(self.averages, self.peers, strict=True) if teach else ()
        normalising = teacher.Normalising(pairs)
        with normalising.by_batch():
            result = self.replicas.run(self._learn, forward, taught_on, normalising)
        loss = tf.add_n(result.terms)
        changed = zip(self._statistics(normalising), result.statistics, strict=True)
        statistics = [(variable, value) for variable, value in changed if value is not None]

        def take_step() -> None:
            self.optimizer.apply(result.gradients, self.trainable_variables)
            for variable, value in statistics:
                variable.assign(value)
            momentum = teacher.momentum_at(step, self.momentum)
            averages, peers = variables_of(self.averages), variables_of(self.peers)
            teacher.update(averages, peers, momentum, normalising.statistics)
            for memory in self._memories:
                memory.remember(images, labels, result.logits)
            self.step.assign_add(1)
            logs = dict(zip(self.term_names, result.terms, strict=True))
            logs |= {"loss": loss, "ramp": result.ramp}
            if self._views.boxes_differ:
                logs["region_overlap"] = overlap(mixed.draws[-1])
            for metric in self.step_metrics:
                metric.update_state(logs[metric.name])

        # An optimizer that scales the loss skips overflown gradients by itself.
        scales = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        scale = self.optimizer.dynamic_scale if scales else 1.0
        gradients = [] if scales else result.gradients
        data, values = (images, labels, sample_weights), [value for _, value in statistics]
        allowed = self.guard.allows(data, result.terms, gradients, values, step, scale)
        tf.cond(allowed, take_step, lambda: None)
        return {metric.name: metric.result() for metric in self.step_metrics}

    def _learn(
        self,
        forward: Forward,
        taught_on: Sequence[tf.Tensor],
        normalising: teacher.Normalising,
    ) -> StepResult:
        """What a device finds from its rows of the views; it changes nothing.

        The terms are of the whole batch, on each device: its part of their gradient is what goes
        through its own rows.
        """
        replicas, batch = self.replicas, tf.shape(forward.labels)[0]
        weights, averages = self.trainable_variables, []
        with keras.StatelessScope() as teaching:
            if taught_on:
                averages = normalising.teach(self.run_averages, replicas.rows(taught_on))
        with tf.GradientTape() as tape:
            with keras.StatelessScope(collect_losses=True) as learning:
                outputs = self.run_peers(replicas.rows(forward.views), training=True)
                added = list(learning.losses)
                forward = forward._replace(
                    outputs=replicas.gathered(outputs, batch),
                    averages=replicas.gathered(averages, batch),
                )
                # Not `part(forward)`: there Keras takes tensors alone.
                computed = {part.name: part.call(forward) for part in self.parts}
            forward = forward._replace(parts=computed)
            ramp = ramp_at(self.method, forward)
            terms = losses_at(self.terms, forward, ramp)
            if "peers_losses" in self.term_names:
                terms["peers_losses"] = self.run_peers.own_losses(added)
            if self.weight_decay:
                terms["weight_decay"] = losses.weight_decay(weights, self.weight_decay)
            loss = tf.add_n(list(terms.values()))
            scaled_loss = self.optimizer.scale_loss(loss) / replicas.count
        values = []
        for variable in self._statistics(normalising):
            value = learning.get_current_value(variable)
            values.append(teaching.get_current_value(variable) if value is None else value)
        return StepResult(
            forward.logits if self._memories else [],
            replicas.reduced(MEAN, list(terms.values())),
            ramp,
            replicas.reduced(SUM, tape.gradient(scaled_loss, weights)),
            replicas.reduced(MEAN, values),
        )

    def _statistics(self, normalising: teacher.Normalising) -> list[keras.Variable]:
        """What a step may change without a gradient."""
        own = [v for v in variables_of([*self.peers, *self.parts]) if not v.trainable]
        return own + normalising.statistics

    def make_views(self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor) -> MixedBatch:
        """What each peer sees of images `[B, H, W, C]` at one step, and the labels they share.

        With a method that remembers the last batch, that one comes first, and `B` is both.

        Args:
          labels: integers `[B]`, or `[B, K]`.
          step: its number.
        """
        labels = soft_labels(labels, self.num_classes)
        batches = [(images, labels, step)]
        for memory in self._memories:
            last = memory.recall(images, labels, step)
            batches.insert(0, (*last, tf.maximum(step - 1, 0)))
        return self._views(batches, step)

    def _weighted_labels(
        self, mixed: MixedBatch, labels: tf.Tensor, weights: tf.Tensor | None
    ) -> tf.Tensor:
        """The mixed labels `[B, K]`, each part times the weights of its sample and its class."""
        weighted = mixed.labels
        if weights is not None:
            if self._memories:
                raise ValueError(
                    f"{self.method.name} remembers the last batch, but not the weights of its "
                    "samples: fit it without sample_weight and class_weight"
                )
            weighted = self._views.mix_labels(weigh(labels, weights), mixed)
        classes = self.method.class_weights
        return weighted * tf.constant(classes, tf.float32) if classes else weighted

    @property
    def _memories(self) -> list[Memory]:
        return [part for part in self.parts if isinstance(part, Memory)]

    @property
    def leader(self) -> str | None:
        """The name of the peer that the method's paper deploys, if it names one."""
        leader = self.method.recipe.leader
        return None if leader is None else f"peer{leader % len(self.peers) + 1}"

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [*self.step_metrics, *self.accuracy_metrics]

    @property
    def networks(self) -> dict[str, keras.Model]:
        """Each single network by the name it has in the metrics: average1, ..., peer1, ..."""
        kinds = {"average": self.averages, "peer": self.peers}
        return {f"{k}{i}": n for k, ns in kinds.items() for i, n in enumerate(ns, start=1)}

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The teacher's probabilities, `[B, K]` float32."""
        return _mean(self._probabilities(self.run_averages, images))

    def predict_each(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Probabilities `[B, K]` float32 of the teacher, of the ensemble and of each network."""
        averages = self._probabilities(self.run_averages, images)
        peers = self._probabilities(self.run_peers, images)
        singles = zip(self.networks, (*averages, *peers), strict=True)
        return {"teacher": _mean(averages), "ensemble": _mean(peers), **dict(singles)}

    def predict_step(self, data: Any) -> tf.Tensor:
        self.brightness.observe(keras.utils.unpack_x_y_sample_weight(data)[0])
        return super().predict_step(data)

    def test_step(self, data: Any) -> Mapping[str, tf.Tensor]:
        images, labels, weights = unpack(data, self.num_classes)
        self.brightness.observe(images)
        if images.dtype.is_floating:
            pixels = tf.reshape(images, [-1])
            require(tf.math.is_finite(pixels), "pixels must be finite numbers", pixels)
        labels = soft_labels(labels, self.num_classes)
        classes, counts = tf.argmax(labels, axis=-1), tf.cast(has_label(labels), tf.float32)
        predictions = self.predict_each(images)
        likelihood = tf.gather(predictions["teacher"], classes, batch_dims=1)
        loss = -tf.math.log(tf.maximum(likelihood, 1e-30))
        if weights is not None:
            require(tf.math.is_finite(weights), "sample weights must be finite numbers", weights)
            loss *= weights
        # Keras, too, divides a loss by the samples, and an accuracy by what they count.
        self.step_metrics[0].update_state(loss, counts)
        weights = counts if weights is None else counts * weights
        for metric, prediction in zip(self.accuracy_metrics, predictions.values(), strict=True):
            metric.update_state(classes, prediction, weights)
        return {m.name: m.result() for m in (self.step_metrics[0], *self.accuracy_metrics)}

    def export(self, filepath: str, *args: Any, **kwargs: Any) -> None:
        """As Keras' own, of images `[N, H, W, C]` float32 of the peers' size; called or not."""
        images = [keras.InputSpec(shape=self.peers[0].input_shape, dtype="float32")]
        super().export(filepath, *args, **{"input_signature": images, **kwargs})

    def _probabilities(self, run: sharing.Together, images: tf.Tensor) -> list[tf.Tensor]:
        outputs = run([images] * len(self.peers), training=False)
        return [losses.soften(output["logits"], 1.0) for output in outputs]

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.compile`; a training that diverged may then start over.

        Raises:
          ValueError: a loss or metrics were passed.
        """
        given = inspect.signature(super().compile).bind(*args, **kwargs).arguments
        for name in _OWN:
            if given.get(name) is not None:
                raise ValueError(
                    f"{type(self).__name__} has a loss, its method, and metrics of its own: "
                    f"compile it without {name}, and measure other things on what it predicts"
                )
        super().compile(*args, **kwargs)
        self.failed_step.assign(-1)

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        config = keras.saving.deserialize_keras_object(config)
        self.compile(**config)
        self.optimizer.build(self.trainable_variables)

    @checked
    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.fit`.

        Raises:
          DivergenceError: the loss is no longer finite.
          ValueError: a label is none.
        """
        given = inspect.signature(super().fit).bind(*args, **kwargs).arguments
        callbacks = given.pop("callbacks", None)
        others = keras.tree.flatten(getattr(callbacks, "callbacks", callbacks) or [])
        for callback in others:
            monitor = str(getattr(callback, "monitor", None))
            # Keras looks for what is better among the metrics of `compile` alone.
            if monitor.endswith("accuracy") and getattr(callback, "mode", None) == "auto":
                callback.mode = "max"
        held_out_parts = [part for part in self.parts if isinstance(part, HeldOutPart)]
        if held_out_parts:
            given |= _held_out(given)
        held_out = [
            LearnHeldOut(self, part, given.get("validation_data")) for part in held_out_parts
        ]
        return super().fit(**given, callbacks=[StopAtDivergence(), *held_out, *others])

    @checked
    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.train_on_batch`; raises what `fit` does."""
        logs = super().train_on_batch(*args, **kwargs)
        self.check_finite()
        return logs

    test_on_batch = checked(keras.Model.test_on_batch)
    evaluate = checked(keras.Model.evaluate)
    predict = checked(keras.Model.predict)

    def make_train_function(self, force: bool = False) -> None:
        if self.train_function is not None and not force:
            return
        if not self.optimizer.built:
            # Were it to make its variables inside the step, TensorFlow would trace that twice.
            self.optimizer.build(self.trainable_variables)
        super().make_train_function(force)
        if not self.jit_compile and not tf.config.list_physical_devices("GPU"):
            self.train_function = as_traced()(self.train_function)

    def check_finite(self) -> None:
        """Raise `DivergenceError`, with the step and the term, if a step was not finite."""
        self.brightness.warn()
        self.guard.check()

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        joined = self.run_peers.joined
        return {
            **super().get_config(),
            "peers": [serialize(network) for network in ([joined] if joined else self.peers)],
            "mixing": serialize(self.mixing),
            "method": self.method.get_config(),
            "augment": serialize(self.augment),
            "own_views": self.own_views,
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "OnlineDistiller":
        deserialize = keras.saving.deserialize_keras_object
        networks = [deserialize(network) for network in config["peers"]]
        peers = [peer for network in networks for peer in sharing.split(network)]
        layers = {name: deserialize(config[name]) for name in ("mixing", "augment")}
        return cls(**{**config, **layers, "peers": peers, "method": Method(**config["method"])})


class StopAtDivergence(keras.callbacks.Callback):
    """Looks at the flag that the train step sets; rarely, because looking waits for a GPU."""

    calls = 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.calls += 1
        if self.calls % 50 == 1:
            self.model.check_finite()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.model.check_finite()


class LearnHeldOut(keras.callbacks.Callback):
    """Shows a part the peers' predictions on the validation data after each epoch.

    Raises:
      ValueError: there are no such data.
    """

    def __init__(self, model: OnlineDistiller, part: HeldOutPart, validation_data: Any) -> None:
        super().__init__()
        if validation_data is None:
            raise ValueError(
                f"{model.method.name} learns from held-out images: pass validation_data"
            )
        if isinstance(validation_data, tuple | list | dict):
            arrays = (
                tuple(validation_data) if isinstance(validation_data, list) else validation_data
            )
            validation_data = tf.data.Dataset.from_tensor_slices(arrays).batch(500)
        self.part, self.validation_data = part, validation_data
        self.predict = tf.function(model.predict_each, autograph=False)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        probabilities, labels, weights = [], [], []
        for data in self.validation_data:
            images, batch_labels, batch_weights = unpack(data, self.model.num_classes)
            predictions = self.predict(images).items()
            probabilities.append([p for name, p in predictions if name.startswith("peer")])
            labels.append(soft_labels(batch_labels, self.model.num_classes))
            weights.append(np.ones(len(images)) if batch_weights is None else batch_weights)
        self.part.learn(
            np.concatenate(probabilities, axis=1), np.concatenate(labels), np.concatenate(weights)
        )


def _held_out(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `fit` with `validation_split` made a set, which Keras keeps to itself."""
    split = given.get("validation_split")
    names = [name for name in ("x", "y", "sample_weight") if given.get(name) is not None]
    if not split or len(names) < 2 or given.get("validation_data") is not None:
        return {}
    start = int(len(given["x"]) * (1 - split))  # Keras holds out the last part, too
    return {
        **{name: given[name][:start] for name in names},
        "validation_data": tuple(given[name][start:] for name in names),
        "validation_split": 0.0,
    }


def _mean(predictions: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.add_n(list(predictions)) / len(predictions)


@contextlib.contextmanager
def as_traced() -> Iterator[None]:
    """Within, or in a function that it decorates, TensorFlow runs graphs as they were traced.

    Its optimizer of graphs (Grappler) goes over the whole graph again and again before the first
    call, which deep networks wait for (`python -m benchmarks start`). On a CPU no step was the
    faster for it; on a GPU, where this was not tried, it also chooses how images lie in memory.
    """
    before = tf.config.optimizer.get_experimental_options()["disable_meta_optimizer"]
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": before})
