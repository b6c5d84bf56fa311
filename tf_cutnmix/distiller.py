"""Several networks trained together, each other's teachers: `OnlineDistiller`."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_cutnmix import losses, sharing, teacher
from tf_cutnmix.draws import SteppedLayer
from tf_cutnmix.errors import DivergenceError
from tf_cutnmix.methods import Method, losses_at, parts_of
from tf_cutnmix.mixing import CutNMix, Mixing, overlap, soft_labels
from tf_cutnmix.parts import Forward, HeldOutWeights, LastBatch


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
    likelihood as `loss`. `fit` logs the loss and each of its terms.

    While the averaged peers teach, they normalise as the peers do, by the batch that they see,
    without dropout, and keep moving statistics of their own of what they saw; they are
    evaluated and exported with these. Where no term looks at them, their statistics are
    averaged as their weights are. A layer that is frozen in a peer stays frozen in its average.

    With `CutNMix`, `region_overlap` is logged too, the mean overlap of the peers' boxes.

    The method is the loss: `compile` takes an optimizer and how to run, no loss and no
    metrics. Should a term or a gradient stop being finite, that step and all after it change
    nothing, and `fit` raises.

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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = _num_classes(peers)
        views = getattr(mixing, "num_peers", len(peers))
        if views != len(peers):
            raise ValueError(f"mixing makes {views} views for {len(peers)} peers: make them equal")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1. Received: {momentum}")
        if not 0 <= weight_decay < float("inf"):
            raise ValueError(f"weight_decay must be 0 or more. Received: {weight_decay}")
        self.method = Method(method) if isinstance(method, str) else method
        self.terms = self.method.terms(peers)
        self.parts = parts_of(self.terms)
        self.peers = list(peers)
        self.averages = teacher.averaged_copies(peers)
        self.run_peers = sharing.Together(self.peers)
        self.run_averages = sharing.Together(self.averages)
        self.mixing = mixing
        self.augment = augment
        self.own_views = self.method.recipe.own_views if own_views is None else own_views
        if self.own_views and augment is not None and not isinstance(mixing, Mixing | None):
            raise ValueError(
                f"{type(mixing).__name__} cannot mix views of each peer's own alike: pass "
                "own_views=False, or a layer of tf_cutnmix.mixing"
            )
        self.momentum = momentum
        self.weight_decay = weight_decay
        self._augmented = _compiled(self._augment, augment)
        self._mixed = _compiled(self._mix, mixing)
        self.step = self._counter("step", 0)
        self.failed_step = self._counter("failed_step", -1)
        self.failed_term = self._counter("failed_term", -1)

        names = [term.name for term in self.terms] + ["weight_decay"] * (weight_decay > 0)
        self.term_names = names
        self.loss_metrics = [keras.metrics.Mean(name) for name in ("loss", *names)]
        self.overlap_metrics = [keras.metrics.Mean("region_overlap")] * self._boxes_differ
        self.accuracy_metrics = [
            keras.metrics.SparseCategoricalAccuracy(f"{name}_accuracy")
            for name in ("teacher", "ensemble", *self.networks)
        ]
        self.built = True

    @property
    def networks(self) -> dict[str, keras.Model]:
        """Each single network by the name it has in the metrics: average1, ..., peer1, ..."""
        kinds = {"average": self.averages, "peer": self.peers}
        return {f"{k}{i}": n for k, ns in kinds.items() for i, n in enumerate(ns, start=1)}

    @property
    def leader(self) -> str | None:
        """The name of the peer that the method's paper deploys, if it names one."""
        leader = self.method.recipe.leader
        return None if leader is None else f"peer{leader % len(self.peers) + 1}"

    @property
    def watched(self) -> list[str]:
        """What `failed_term` counts: all that must be finite, in words."""
        of_the_loss = [f"{name} of the loss" for name in (*self.term_names, "gradient")]
        return [*of_the_loss, "statistic of BatchNormalization"]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [*self.loss_metrics, *self.overlap_metrics, *self.accuracy_metrics]

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, labels = self._unpack(data)
        labels = soft_labels(labels, self.num_classes)
        step = tf.identity(self.step.value)
        views, mixed_labels, overlaps = self.make_views(images, labels, step)
        teach = any(term.uses_averages for term in self.terms)
        normalising = teacher.Normalising(self.averages, self.peers) if teach else None
        own = normalising.statistics if normalising else []
        statistics = [v for v in _variables([*self.peers, *self.parts]) if not v.trainable] + own
        before = [tf.identity(v.value) for v in statistics]
        averages = normalising.teach(self.run_averages, views) if normalising else []

        with tf.GradientTape() as tape:
            outputs = self.run_peers(views, training=True)
            forward = Forward(step, mixed_labels, views, outputs, averages)
            forward = forward._replace(parts={part.name: part(forward) for part in self.parts})
            terms = losses_at(self.terms, forward, self.method.ramp_steps)
            if self.weight_decay:
                terms["weight_decay"] = losses.weight_decay(
                    self.trainable_variables, self.weight_decay
                )
            loss = tf.add_n(list(terms.values()))
            scaled_loss = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled_loss, self.trainable_variables)

        def take_step() -> None:
            self.optimizer.apply(gradients, self.trainable_variables)
            momentum = teacher.momentum_at(step, self.momentum)
            teacher.update(_variables(self.averages), _variables(self.peers), momentum, own)
            for memory in self._memories:
                memory.remember(images, labels, forward.logits)
            self.step.assign_add(1)
            values = (loss, *terms.values(), *overlaps)
            metrics = (*self.loss_metrics, *self.overlap_metrics)
            for metric, value in zip(metrics, values, strict=True):
                metric.update_state(value)

        def take_back() -> None:
            for variable, value in zip(statistics, before, strict=True):
                variable.assign(value)

        tf.cond(self._healthy(terms, gradients, statistics, step), take_step, take_back)
        return {m.name: m.result() for m in (*self.loss_metrics, *self.overlap_metrics)}

    def make_views(
        self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor, list[tf.Tensor]]:
        """What each peer sees at one step, the labels `[B, K]` that they share, the overlap.

        Args:
          images: `[B, H, W, C]`.
          labels: integers `[B]`, or `[B, K]`.
          step: number of the step.

        Returns:
          A view `[B, H, W, C]` for each peer, one object where they see the same; labels
          float32; the mean overlap of the peers' boxes, if they have boxes of their own. With a
          method that remembers the last batch, that one comes first, and `B` is both.
        """
        labels = soft_labels(labels, self.num_classes)
        batches = [(images, labels, step)]
        for memory in self._memories:
            last = memory.recall(images, labels, step)
            batches.insert(0, (*last, tf.maximum(step - 1, 0)))
        images, labels, overlaps = self._augment_and_mix(batches, step)
        separate = images.shape.rank == 5
        views = tf.unstack(images, axis=1) if separate else [images] * len(self.peers)
        return views, labels, overlaps

    def make_train_function(self, force: bool = False) -> Any:
        if not self.optimizer.built:
            # Were it to make its variables inside the step, TensorFlow would trace that twice.
            self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, labels = self._unpack(data)
        classes = tf.argmax(labels, axis=-1) if labels.shape.rank == 2 else labels
        predictions = self.predict_each(images)
        likelihood = tf.gather(predictions["teacher"], tf.cast(classes, tf.int32), batch_dims=1)
        self.loss_metrics[0].update_state(-tf.math.log(tf.maximum(likelihood, 1e-30)))
        for metric, prediction in zip(self.accuracy_metrics, predictions.values(), strict=True):
            metric.update_state(classes, prediction)
        return {m.name: m.result() for m in (self.loss_metrics[0], *self.accuracy_metrics)}

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The teacher's probabilities, `[B, K]` float32."""
        return _mean(self._probabilities(self.run_averages, images))

    def predict_each(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Probabilities `[B, K]` float32 of the teacher, of the ensemble and of each network."""
        averages = self._probabilities(self.run_averages, images)
        peers = self._probabilities(self.run_peers, images)
        singles = zip(self.networks, (*averages, *peers), strict=True)
        return {"teacher": _mean(averages), "ensemble": _mean(peers), **dict(singles)}

    def fit(self, *args: Any, callbacks: Any = None, **kwargs: Any) -> Any:
        """As `keras.Model.fit`; raises `DivergenceError` when the loss is no longer finite."""
        own = [_StopAtDivergence()]
        for part in self.parts:
            if isinstance(part, HeldOutWeights):
                own.append(_LearnHeldOut(part, kwargs.get("validation_data")))
        if isinstance(callbacks, keras.callbacks.CallbackList):
            for callback in own:
                callbacks.append(callback)
        else:
            callbacks = [*own, *keras.tree.flatten(callbacks or [])]
        return super().fit(*args, callbacks=callbacks, **kwargs)

    def check_finite(self) -> None:
        """Raise `DivergenceError`, with the step and the term, if a step was not finite."""
        step = int(self.failed_step.value)
        if step >= 0:
            failed = self.watched[int(self.failed_term.value)]
            raise DivergenceError(
                f"step {step}: the {failed} is not finite; the model is as it was before that "
                "step. Lower the learning rate or the weight of the term"
            )

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
        return self.add_weight(
            shape=(), initializer=initializer, dtype="int64", trainable=False, name=name
        )

    def _unpack(self, data: Any) -> tuple[tf.Tensor, tf.Tensor]:
        if self.loss is not None:
            raise ValueError("OnlineDistiller's loss is its method: compile it without a loss")
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        if labels is None or weights is not None:
            raise ValueError("OnlineDistiller needs pairs (images, labels), without sample weights")
        images, labels = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
        if labels.shape.rank == 2 and labels.shape[1] == 1 and self.num_classes > 1:
            labels = tf.squeeze(labels, axis=1)
        return images, labels

    @property
    def _boxes_differ(self) -> bool:
        return isinstance(self.mixing, CutNMix) and len(self.peers) > 1

    @property
    def _memories(self) -> list[LastBatch]:
        return [part for part in self.parts if isinstance(part, LastBatch)]

    def _augment_and_mix(
        self, batches: Sequence[tuple[tf.Tensor, tf.Tensor, tf.Tensor]], step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Views and labels of batches (images, labels, step to mix at), one after another."""
        images = tf.concat([images for images, _, _ in batches], axis=0)
        if self.augment is not None:
            images = self._augmented(images, step)
        if self.mixing is None:
            return images, tf.concat([labels for _, labels, _ in batches], axis=0), []
        mixed = [
            self._mixed(part, labels, at)
            for part, (_, labels, at) in zip(tf.split(images, len(batches)), batches, strict=True)
        ]
        views, labels, overlaps = zip(*mixed, strict=True)
        return tf.concat(views, axis=0), tf.concat(labels, axis=0), overlaps[-1]

    def _augment(self, images: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Augmented images `[B, H, W, C]`, or `[B, n, H, W, C]` if each peer has its own."""
        if not self.own_views:
            return self.augment(images, training=True, step=step)
        copies = tf.repeat(images, len(self.peers), axis=0)
        copies = self.augment(copies, training=True, step=step)
        return tf.reshape(copies, [-1, len(self.peers), *images.shape[1:]])

    def _mix(
        self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Views and labels of one batch, and the overlap of its boxes."""
        mixed = self.mixing({"images": images, "labels": labels}, training=True, step=step)
        overlaps = []
        if self._boxes_differ:
            size = tf.shape(images)
            overlaps = [overlap(self.mixing.draw(step, (size[0], size[-3], size[-2])))]
        return mixed["images"], mixed["labels"], overlaps

    def _probabilities(self, run: sharing.Together, images: tf.Tensor) -> list[tf.Tensor]:
        outputs = run([images] * len(self.peers), training=False)
        return [losses.soften(output["logits"], 1.0) for output in outputs]

    def _healthy(
        self,
        terms: dict[str, tf.Tensor],
        gradients: Sequence[tf.Tensor],
        statistics: Sequence[keras.Variable],
        step: tf.Tensor,
    ) -> tf.Tensor:
        """Whether this step may be taken; notes the first step and term that are not finite."""
        scales = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        gradient = tf.zeros([]) if scales else tf.linalg.global_norm(gradients)
        # Activations can overflow while all that comes after BatchNormalization is finite.
        floats = [
            tf.cast(v.value, tf.float32)
            for v in statistics
            if keras.backend.is_float_dtype(v.dtype)
        ]
        statistic = tf.linalg.global_norm([tf.zeros([]), *floats])
        broken = ~tf.math.is_finite(tf.stack([*terms.values(), gradient, statistic]))
        earlier = self.failed_step.value >= 0
        first = tf.reduce_any(broken) & ~earlier
        self.failed_step.assign(tf.where(first, step, self.failed_step.value))
        term = tf.argmax(broken)
        self.failed_term.assign(tf.where(first, term, self.failed_term.value))
        return ~(earlier | first)


class _StopAtDivergence(keras.callbacks.Callback):
    """Looks at the flag that the train step sets; rarely, because looking waits for a GPU."""

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.calls = 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.calls += 1
        if self.calls % 50 == 1:
            self.model.check_finite()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.model.check_finite()


class _LearnHeldOut(keras.callbacks.Callback):
    """Weighs the peers by their predictions on the validation data after each epoch."""

    def __init__(self, part: HeldOutWeights, validation_data: Any) -> None:
        super().__init__()
        if validation_data is None:
            raise ValueError("kdcl_general learns from held-out images: pass validation_data")
        self.part = part
        if not isinstance(validation_data, tf.data.Dataset):
            validation_data = tf.data.Dataset.from_tensor_slices(validation_data).batch(500)
        self.validation_data = validation_data

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.predict = tf.function(self.model.predict_each)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        probabilities, labels = [], []
        for images, batch_labels in self.validation_data:
            predictions = self.predict(images)
            peers = [predictions[f"peer{i + 1}"] for i in range(len(self.model.peers))]
            probabilities.append(tf.stack(peers))
            labels.append(soft_labels(batch_labels, self.model.num_classes))
        self.part.learn(np.concatenate(probabilities, axis=1), np.concatenate(labels))


def _compiled(function: Callable, layer: keras.layers.Layer | None) -> Callable:
    """A function of one layer, compiled by XLA unless the layer is somebody else's.

    XLA pays for augmenting and for mixing on a CPU too, where it does not for networks. Not for
    both at once: it would compute the one anew for every pixel of the other.
    """
    compiles = isinstance(layer, SteppedLayer) and layer.supports_jit
    return tf.function(function, jit_compile=True if compiles else None)


def _mean(predictions: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.add_n(list(predictions)) / len(predictions)


def _variables(layers: Sequence[keras.Layer]) -> list[keras.Variable]:
    """All variables of some layers, those that they share once."""
    return list({id(v): v for layer in layers for v in layer.variables}.values())


def _num_classes(peers: Sequence[keras.Model]) -> int:
    """The number of classes that all peers tell apart, once they are what they must be."""
    if not peers:
        raise ValueError("peers must hold at least one model. Received: none")
    if len({id(peer) for peer in peers}) < len(peers):
        raise ValueError("peers must be different objects: one model was passed twice")
    classes = []
    for number, peer in enumerate(peers, start=1):
        output = getattr(peer, "output", None)
        if not (isinstance(output, dict) and {"features", "logits"} <= set(output)):
            raise ValueError(
                f"peer {number} must be a functional model that outputs "
                '{"features": [B, D], "logits": [B, K]}; a subclassed model becomes one as '
                f"keras.Model(inputs, model(inputs)). Received: {peer!r} with output {output!r}"
            )
        classes.append(output["logits"].shape[-1])
    if len(set(classes)) > 1:
        raise ValueError(f"peers must tell apart the same classes. Received: {classes} logits")
    return classes[0]
