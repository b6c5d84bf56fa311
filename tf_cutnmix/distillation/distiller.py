"""Several networks trained together, each other's teachers: `OnlineDistiller`."""

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_cutnmix.distillation import losses, teacher
from tf_cutnmix.distillation.forward import Forward, Learnt, Memory
from tf_cutnmix.distillation.guard import Guard
from tf_cutnmix.distillation.inputs import Brightness
from tf_cutnmix.distillation.method import Method, losses_at, parts_of, ramp_at
from tf_cutnmix.distillation.peers import adds_losses, check_peers, pull, variables_of
from tf_cutnmix.distillation.predictor import Predictor
from tf_cutnmix.distillation.replicas import Replicas
from tf_cutnmix.distillation.trainer import Trainer
from tf_cutnmix.distillation.unpacking import unpack
from tf_cutnmix.distillation.views import Shown, Views
from tf_cutnmix.mixing.labels import soft_labels, weigh
from tf_cutnmix.mixing.sampling import overlap
from tf_cutnmix.networks import sharing


@keras.saving.register_keras_serializable("tf_cutnmix")
class OnlineDistiller(Predictor, Trainer):
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
        forward = Forward(step, shown.labels, shown.views, (), mix=mix, counted=counted)
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
            if self.method.pull_every:
                pull(self.peers, step, self.method.pull_every)
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
    ) -> Learnt:
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
        return Learnt(
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

    def _counter(self, name: str, value: int) -> keras.Variable:
        initializer = keras.initializers.Constant(value)
        return self.add_weight((), initializer, "int64", trainable=False, name=name)

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
