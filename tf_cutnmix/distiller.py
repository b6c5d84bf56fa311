"""Several networks trained together, each other's teachers: `OnlineDistiller`."""

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_cutnmix import losses, teacher
from tf_cutnmix.draws import SteppedLayer
from tf_cutnmix.errors import DivergenceError
from tf_cutnmix.methods import Forward, Method
from tf_cutnmix.mixing import soft_labels


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
    likelihood as `loss`. `fit` logs the loss and each of its terms. The teacher's statistics
    of BatchNormalization are averaged as its weights are, and it always predicts with them.

    The method is the loss: `compile` takes an optimizer and how to run, no loss and no
    metrics. Should a term or a gradient stop being finite, that step and all after it change
    nothing, and `fit` raises.

    Args:
      peers: models from images `[B, H, W, C]` to `{"features": [B, D_k], "logits": [B, K]}`;
        their architectures may differ. The model trains these very objects.
      mixing: a layer of `tf_cutnmix.mixing`, or None. Views `[B, n, H, W, C]` go one to each
        peer, plain batches `[B, H, W, C]` to all of them.
      method: a `Method`, or the name of one with its default settings.
      augment: a layer that is called as `augment(images, training=True, step=step)` before
        mixing, or None.
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
        momentum: float = 0.999,
        weight_decay: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        sizes, self.num_classes = _endpoints(peers)
        views = getattr(mixing, "num_peers", len(peers))
        if views != len(peers):
            raise ValueError(f"mixing makes {views} views for {len(peers)} peers: make them equal")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be at least 0 and below 1. Received: {momentum}")
        if not 0 <= weight_decay < float("inf"):
            raise ValueError(f"weight_decay must be 0 or more. Received: {weight_decay}")
        self.peers = list(peers)
        self.averages = [teacher.averaged_copy(peer) for peer in peers]
        self.mixing = mixing
        self.augment = augment
        self.method = Method(method) if isinstance(method, str) else method
        self.momentum = momentum
        self.weight_decay = weight_decay
        pairs = itertools.permutations(range(len(peers)), 2)
        self.pairs = list(pairs) if self.method.uses_adapters else []
        self.adapters = [keras.layers.Dense(sizes[j], use_bias=False) for _, j in self.pairs]
        for (k, _), adapter in zip(self.pairs, self.adapters, strict=True):
            adapter.build((None, sizes[k]))
        # XLA pays for mixing on a CPU too, where it does not for networks; a layer of somebody
        # else may not compile.
        ours = all(isinstance(layer, (SteppedLayer, type(None))) for layer in (augment, mixing))
        self._mix = tf.function(self._augment_and_mix, jit_compile=True if ours else None)
        self.step = self._counter("step", 0)
        self.failed_step = self._counter("failed_step", -1)
        self.failed_term = self._counter("failed_term", -1)

        names = [term.name for term in self.method.terms] + ["weight_decay"] * (weight_decay > 0)
        self.term_names = names
        self.loss_metrics = [keras.metrics.Mean(name) for name in ("loss", *names)]
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
    def metrics(self) -> list[keras.metrics.Metric]:
        return [*self.loss_metrics, *self.accuracy_metrics]

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, labels = self._unpack(data)
        step = tf.identity(self.step.value)
        views, labels = self.make_views(images, labels, step)
        teacher_logits = self._logits(self.averages, views) if self.method.uses_teacher else []
        statistics = [v for peer in self.peers for v in peer.non_trainable_variables]
        before = [tf.identity(v.value) for v in statistics]

        with tf.GradientTape() as tape:
            outputs = [peer(v, training=True) for peer, v in zip(self.peers, views, strict=True)]
            features = [output["features"] for output in outputs]
            forward = Forward(
                labels=labels,
                logits=[output["logits"] for output in outputs],
                features=features,
                adapted=self._adapt(features),
                teacher_logits=teacher_logits,
            )
            terms = self.method.loss(forward, step)
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
            for average, peer in zip(self.averages, self.peers, strict=True):
                teacher.update(average.variables, peer.variables, momentum)
            self.step.assign_add(1)
            for metric, value in zip(self.loss_metrics, (loss, *terms.values()), strict=True):
                metric.update_state(value)

        def take_back() -> None:
            for variable, value in zip(statistics, before, strict=True):
                variable.assign(value)

        tf.cond(self._healthy(terms, gradients, step), take_step, take_back)
        return {metric.name: metric.result() for metric in self.loss_metrics}

    def make_views(
        self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """What each peer sees at one step, and the labels `[B, K]` float32 that they share."""
        images, labels = self._mix(images, soft_labels(labels, self.num_classes), step)
        separate = images.shape.rank == 5
        return tf.unstack(images, axis=1) if separate else [images] * len(self.peers), labels

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, labels = self._unpack(data)
        classes = tf.argmax(labels, axis=-1) if labels.shape.rank == 2 else labels
        averages = self._probabilities(self.averages, images)
        peers = self._probabilities(self.peers, images)
        mean, ensemble = _mean(averages), _mean(peers)
        likelihood = tf.gather(mean, tf.cast(classes, tf.int32), batch_dims=1)
        self.loss_metrics[0].update_state(-tf.math.log(tf.maximum(likelihood, 1e-30)))
        predictions = (mean, ensemble, *averages, *peers)
        for metric, prediction in zip(self.accuracy_metrics, predictions, strict=True):
            metric.update_state(classes, prediction)
        return {m.name: m.result() for m in (self.loss_metrics[0], *self.accuracy_metrics)}

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The teacher's probabilities, `[B, K]` float32."""
        return _mean(self._probabilities(self.averages, images))

    def fit(self, *args: Any, callbacks: Any = None, **kwargs: Any) -> Any:
        """As `keras.Model.fit`; raises `DivergenceError` when the loss is no longer finite."""
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.append(_StopAtDivergence())
        else:
            callbacks = [_StopAtDivergence(), *keras.tree.flatten(callbacks or [])]
        return super().fit(*args, callbacks=callbacks, **kwargs)

    def check_finite(self) -> None:
        """Raise `DivergenceError`, with the step and the term, if a step was not finite."""
        step = int(self.failed_step.value)
        if step >= 0:
            term = [*self.term_names, "gradient"][int(self.failed_term.value)]
            raise DivergenceError(
                f"step {step}: the {term} of the loss is not finite; the model is as it was before "
                "that step. Lower the learning rate or the weight of the term"
            )

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "peers": [serialize(peer) for peer in self.peers],
            "mixing": serialize(self.mixing),
            "method": self.method.get_config(),
            "augment": serialize(self.augment),
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "OnlineDistiller":
        deserialize = keras.saving.deserialize_keras_object
        return cls(
            **{
                **config,
                "peers": [deserialize(peer) for peer in config["peers"]],
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

    def _augment_and_mix(
        self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        if self.augment is not None:
            images = self.augment(images, training=True, step=step)
        if self.mixing is None:
            return images, labels
        mixed = self.mixing({"images": images, "labels": labels}, training=True, step=step)
        return mixed["images"], mixed["labels"]

    def _adapt(self, features: Sequence[tf.Tensor]) -> dict[tuple[int, int], tf.Tensor]:
        return {
            (k, j): adapter(features[k])
            for (k, j), adapter in zip(self.pairs, self.adapters, strict=True)
        }

    def _logits(
        self, networks: Sequence[keras.Model], views: Sequence[tf.Tensor]
    ) -> list[tf.Tensor]:
        return [n(v, training=False)["logits"] for n, v in zip(networks, views, strict=True)]

    def _probabilities(self, networks: Sequence[keras.Model], images: tf.Tensor) -> list[tf.Tensor]:
        return [losses.soften(z, 1.0) for z in self._logits(networks, [images] * len(networks))]

    def _healthy(
        self, terms: dict[str, tf.Tensor], gradients: Sequence[tf.Tensor], step: tf.Tensor
    ) -> tf.Tensor:
        """Whether this step may be taken; notes the first step and term that are not finite."""
        watched = list(terms.values())
        if not isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            watched.append(tf.linalg.global_norm(gradients))
        broken = ~tf.math.is_finite(tf.stack(watched))
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


def _mean(predictions: Sequence[tf.Tensor]) -> tf.Tensor:
    return tf.add_n(list(predictions)) / len(predictions)


def _endpoints(peers: Sequence[keras.Model]) -> tuple[list[int], int]:
    """The feature size of each peer, and the number of classes that all of them tell apart."""
    if not peers:
        raise ValueError("peers must hold at least one model. Received: none")
    if len({id(peer) for peer in peers}) < len(peers):
        raise ValueError("peers must be different objects: one model was passed twice")
    sizes, classes = [], []
    for number, peer in enumerate(peers, start=1):
        output = getattr(peer, "output", None)
        if not (isinstance(output, dict) and {"features", "logits"} <= set(output)):
            raise ValueError(
                f"peer {number} must be a functional model that outputs "
                '{"features": [B, D], "logits": [B, K]}; a subclassed model becomes one as '
                f"keras.Model(inputs, model(inputs)). Received: {peer!r} with output {output!r}"
            )
        sizes.append(output["features"].shape[-1])
        classes.append(output["logits"].shape[-1])
    if len(set(classes)) > 1:
        raise ValueError(f"peers must tell apart the same classes. Received: {classes} logits")
    return sizes, classes[0]
