"""Several networks trained together, each other's teachers: `OnlineDistiller`."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_cutnmix.distillation import losses, teacher
from tf_cutnmix.distillation.guard import Guard
from tf_cutnmix.distillation.inputs import Brightness, in_one_line, unpack
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
from tf_cutnmix.distillation.replicas import Replicas
from tf_cutnmix.distillation.views import Shown, Views
from tf_cutnmix.mixing.batch import require, soft_labels, weigh
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

    The teacher is the mean prediction of the averaged peers. `predict` and calling the model
    give the teacher's probabilities; `evaluate` gives the accuracy of the teacher, of the
    peers' ensemble, of each peer and each averaged peer, and the teacher's negative log
    likelihood as `loss`. `fit` logs the loss and its terms, among them what layers add by
    themselves (`peers_losses`), with `CutNMix` the mean `region_overlap` of the boxes, and the
    `ramp` where terms follow the peers' fit.

    While the averaged peers teach, they normalise as the peers do, by the batch that they see,
    without dropout, and keep moving statistics of their own of what they saw; they are
    evaluated and exported with these. Where no term looks at them, their statistics are
    averaged as their weights are. A layer that is frozen in a peer stays frozen in its average.

    The method is the loss: `compile` takes an optimizer and how to run, no loss and no
    metrics. `fit` takes `sample_weight` and `class_weight`: they weigh the cross-entropies to the
    labels, a mixed sample's as its label is mixed. `evaluate` counts samples by them as Keras does:
    the loss is the mean of `weight * loss`, an accuracy the weighted mean. Should a term or a
    gradient stop being finite, that step and all after it change nothing, and `fit` raises. A label
    that is none is a `ValueError` of one line; pixels of 0 to 1 for peers whose layers show that
    they expect those of 0 to 255 are a warning, once.

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
        self.num_classes = check_peers(peers, mixing)
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
        self._views = Views(augment, mixing, len(peers), self.own_views, self._unmixed)
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.step = self._counter("step", 0)
        self.failed_step = self._counter("failed_step", -1)
        self.failed_term = self._counter("failed_term", -1)

        own = ["peers_losses"] * adds_losses(peers) + ["weight_decay"] * (weight_decay > 0)
        self.term_names = [*(term.name for term in self.terms), *own]
        self.guard = Guard(self.term_names, self.failed_step, self.failed_term)
        self.loss_metrics = [keras.metrics.Mean(name) for name in ("loss", *self.term_names)]
        self.overlap_metrics = [keras.metrics.Mean("region_overlap")] * self._views.boxes_differ
        fits = bool(self.method.fit) and any(term.ramped for term in self.terms)
        self.ramp_metrics = [keras.metrics.Mean("ramp")] * fits
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
        self.brightness.look(images)
        labels = soft_labels(labels, self.num_classes)
        step = tf.identity(self.step.value)
        shown = self.make_views(images, labels, step)
        teach = any(term.uses_averages for term in self.terms)
        normalising = teacher.Normalising(self.averages, self.peers) if teach else None
        mix = functools.partial(self._views.mix_answers, shown=shown)
        counted = self._counted(shown, labels, sample_weights)
        forward = Forward(step, shown.labels, shown.views, (), mix=mix, weighted_labels=counted)
        taught_on = shown.unmixed if self._unmixed else shown.views
        with normalising.told_to_train() if normalising else contextlib.nullcontext():
            found = self.replicas.run(self._learn, forward, taught_on, normalising)
        loss = tf.add_n(found.terms)
        changed = zip(self._statistics(normalising), found.statistics, strict=True)
        statistics = [(variable, value) for variable, value in changed if value is not None]

        def take_step() -> None:
            self.optimizer.apply(found.gradients, self.trainable_variables)
            for variable, value in statistics:
                variable.assign(value)
            momentum = teacher.momentum_at(step, self.momentum)
            own = normalising.statistics if normalising else []
            teacher.update(variables_of(self.averages), variables_of(self.peers), momentum, own)
            for memory in self._memories:
                memory.remember(images, labels, found.logits)
            self.step.assign_add(1)
            overlaps = [overlap(shown.draws[-1]) for _ in self.overlap_metrics]
            values = (loss, *found.terms, *overlaps, *[found.ramp] * len(self.ramp_metrics))
            for metric, value in zip(self._step_metrics, values, strict=True):
                metric.update_state(value)

        # An optimizer that scales the loss skips overflown gradients by itself.
        scales = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        gradients = [] if scales else found.gradients
        given = (images, labels, sample_weights)
        watched = (given, found.terms, gradients, [value for _, value in statistics])
        scale = self.optimizer.dynamic_scale if scales else 1.0
        tf.cond(self.guard.allows(*watched, step, scale), take_step, lambda: None)
        return {metric.name: metric.result() for metric in self._step_metrics}

    def _learn(
        self,
        forward: Forward,
        taught_on: Sequence[tf.Tensor],
        normalising: teacher.Normalising | None,
    ) -> StepResult:
        """What a device finds from its rows of the views; it changes nothing.

        The terms are of the whole batch, on each device: its part of their gradient is what goes
        through its own rows.
        """
        replicas, batch = self.replicas, tf.shape(forward.labels)[0]
        weights, averages = self.trainable_variables, []
        with keras.StatelessScope() as teaching:
            if normalising:
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
        values = [
            (teaching.get_current_value(v), learning.get_current_value(v))
            for v in self._statistics(normalising)
        ]
        return StepResult(
            forward.logits if self._memories else [],
            replicas.mean(list(terms.values())),
            ramp,
            replicas.sum(tape.gradient(scaled_loss, weights)),
            replicas.mean([first if last is None else last for first, last in values]),
        )

    def _statistics(self, normalising: teacher.Normalising | None) -> list[keras.Variable]:
        """What a step may change without a gradient."""
        own = normalising.statistics if normalising else []
        return [v for v in variables_of([*self.peers, *self.parts]) if not v.trainable] + own

    def make_views(self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor) -> Shown:
        """What each peer sees at one step, and the labels `[B, K]` that they share.

        With a method that remembers the last batch, that one comes first, and `B` is both.

        Args:
          images: `[B, H, W, C]`.
          labels: integers `[B]`, or `[B, K]`.
          step: number of the step.
        """
        labels = soft_labels(labels, self.num_classes)
        batches = [(images, labels, step)]
        for memory in self._memories:
            last = memory.recall(images, labels, step)
            batches.insert(0, (*last, tf.maximum(step - 1, 0)))
        return self._views(batches, step)

    def _counted(self, shown: Shown, labels: tf.Tensor, weights: tf.Tensor | None) -> tf.Tensor:
        """The mixed labels `[B, K]`, each part times the weights of its sample and its class."""
        if weights is not None and self._memories:
            raise ValueError(
                f"{self.method.name} remembers the last batch, but not what its samples count: "
                "fit it without sample_weight and class_weight"
            )
        counted = shown.labels
        if weights is not None:
            counted = self._views.mix_answers(weigh(labels, weights), shown)
        classes = self.method.class_weights
        return counted * tf.constant(classes, tf.float32) if classes else counted

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
        return [*self._step_metrics, *self.accuracy_metrics]

    @property
    def _step_metrics(self) -> list[keras.metrics.Metric]:
        return [*self.loss_metrics, *self.overlap_metrics, *self.ramp_metrics]

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

    def test_step(self, data: Any) -> Mapping[str, tf.Tensor]:
        images, labels, weights = unpack(data, self.num_classes)
        self.brightness.look(images)
        classes = tf.argmax(soft_labels(labels, self.num_classes), axis=-1)
        predictions = self.predict_each(images)
        likelihood = tf.gather(predictions["teacher"], classes, batch_dims=1)
        loss = -tf.math.log(tf.maximum(likelihood, 1e-30))
        if weights is not None:
            require(tf.math.is_finite(weights), "sample weights must be finite numbers", weights)
            loss *= weights
        # Keras, too, divides a loss by the samples, and an accuracy by what they count.
        self.loss_metrics[0].update_state(loss)
        for metric, prediction in zip(self.accuracy_metrics, predictions.values(), strict=True):
            metric.update_state(classes, prediction, weights)
        return {m.name: m.result() for m in (self.loss_metrics[0], *self.accuracy_metrics)}

    def predict_step(self, data: Any) -> tf.Tensor:
        images, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        self.brightness.look(images)
        return super().predict_step(data)

    def export(self, filepath: str, *args: Any, **kwargs: Any) -> None:
        """As Keras' own, of images `[N, H, W, C]` float32 of the peers' size; called or not."""
        images = [keras.InputSpec(shape=self.peers[0].input_shape, dtype="float32")]
        super().export(filepath, *args, **{"input_signature": images, **kwargs})

    def _probabilities(self, run: sharing.Together, images: tf.Tensor) -> list[tf.Tensor]:
        outputs = run([images] * len(self.peers), training=False)
        return [losses.soften(output["logits"], 1.0) for output in outputs]

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
        """As `keras.Model.fit`.

        Raises:
          DivergenceError: the loss is no longer finite.
          ValueError: labels are none.
        """
        given = _by_name(super().fit, args, kwargs)
        callbacks = given.pop("callbacks", None)
        own: list[keras.callbacks.Callback] = [StopAtDivergence()]
        for part in self.parts:
            if isinstance(part, HeldOutPart):
                given |= _held_out(given)
                own.append(LearnHeldOut(part, self.method.name, given.get("validation_data")))
        if isinstance(callbacks, keras.callbacks.CallbackList):
            before = list(callbacks.callbacks)
            for callback in own:
                callback.set_model(self)
            callbacks.callbacks += own
            try:
                with self._told():
                    return super().fit(**given, callbacks=callbacks)
            finally:
                callbacks.callbacks[:] = before
        callbacks = [*own, *keras.tree.flatten(callbacks or [])]
        for callback in callbacks:
            _set_mode(callback)
        with self._told():
            return super().fit(**given, callbacks=callbacks)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.train_on_batch`; raises what `fit` does."""
        with self._told():
            logs = super().train_on_batch(*args, **kwargs)
        self.check_finite()
        return logs

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.test_on_batch`; raises `ValueError` as `evaluate` does."""
        with self._told():
            return super().test_on_batch(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.predict`; of no images no rows."""
        try:
            with self._told():
                return super().predict(*args, **kwargs)
        except UnboundLocalError as error:
            if "batch_outputs" not in str(error):
                raise
            # Keras asks what the last batch was, and there was none.
            return np.zeros((0, self.num_classes), np.float32)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.evaluate`; raises `ValueError` if there are no images, or no labels."""
        with self._told():
            figures = super().evaluate(*args, **kwargs)
        if not figures:
            raise ValueError("there is nothing to evaluate: pass at least one labelled image")
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

    def check_finite(self) -> None:
        """Raise `DivergenceError`, with the step and the term, if a step was not finite."""
        self.brightness.tell()
        self.guard.check()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Tell what is wrong with the images and labels of a call."""
        self.brightness.forget()
        with in_one_line():
            yield
        self.brightness.tell()

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
        return cls(
            **{
                **config,
                "peers": [peer for network in networks for peer in sharing.split(network)],
                "mixing": deserialize(config["mixing"]),
                "method": Method(**config["method"]),
                "augment": deserialize(config["augment"]),
            }
        )


class StopAtDivergence(keras.callbacks.Callback):
    """Looks at the flag that the train step sets; rarely, because looking waits for a GPU."""

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.calls = 0

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

    def __init__(self, part: HeldOutPart, method: str, validation_data: Any) -> None:
        super().__init__()
        if validation_data is None:
            raise ValueError(f"{method} learns from held-out images: pass validation_data")
        self.part = part
        if not isinstance(validation_data, tf.data.Dataset | keras.utils.PyDataset):
            validation_data = tf.data.Dataset.from_tensor_slices(validation_data).batch(500)
        self.validation_data = validation_data

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.predict = tf.function(self.model.predict_each, autograph=False)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        probabilities, labels, weights = [], [], []
        for data in _once(self.validation_data):
            images, batch_labels, counted = unpack(data, self.model.num_classes)
            predictions = self.predict(images)
            peers = [predictions[f"peer{i + 1}"] for i in range(len(self.model.peers))]
            probabilities.append(tf.stack(peers))
            labels.append(soft_labels(batch_labels, self.model.num_classes))
            weights.append(np.ones(len(labels[-1])) if counted is None else counted)
        self.part.learn(
            np.concatenate(probabilities, axis=1), np.concatenate(labels), np.concatenate(weights)
        )


def _once(batches: tf.data.Dataset | keras.utils.PyDataset) -> Iterator[Any]:
    """Each batch once."""
    if isinstance(batches, tf.data.Dataset):
        yield from batches
    else:
        for number in range(batches.num_batches):
            yield batches[number]


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


def _mean(predictions: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.add_n(list(predictions)) / len(predictions)


def called_as_traced(function: Callable) -> Callable:
    """A function whose graph TensorFlow runs as it was traced, where there is no GPU.

    Its optimizer of graphs (Grappler) goes over the whole graph again and again before the first
    call, which deep networks wait for (`python -m benchmarks start`). On a CPU no step was the
    faster for it; on a GPU, where this was not tried, it also chooses how images lie in memory.
    """

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        with _as_traced():
            return function(*args, **kwargs)

    return function if tf.config.list_physical_devices("GPU") else called


@contextlib.contextmanager
def _as_traced() -> Iterator[None]:
    before = tf.config.optimizer.get_experimental_options()["disable_meta_optimizer"]
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": before})
