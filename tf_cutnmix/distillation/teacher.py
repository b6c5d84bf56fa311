"""The self-ensemble teacher: a moving average of every peer's weights.

While they teach, the averaged networks normalise as the peers do, by the batch that they see
(as the mean teacher of Tarvainen and Valpola 2017 and PCL's code do). Their moving statistics
are their own, of what they saw, for evaluation and export: an average of the peers' would lag
behind weights that move fast. Where nothing is learnt from them they see nothing, and their
statistics are averaged as their weights are.
"""

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_cutnmix.networks import sharing
from tf_cutnmix.networks.foreign import copy_layer, every_layer


class Normalising:
    """The layers of averaged networks that normalise by the batch while they teach.

    These are the layers, at any depth, that have statistics: numbers of their own that are not
    trained, and a `training` argument to say when they are updated. Layers that are frozen
    (`trainable=False`) in a peer are left out, and so are wrappers, whose numbers are about the
    weights of what they wrap. Two things cannot be told from outside: a layer that calls a part
    of its own with `training=False` whatever it is called with, where freezing that part says
    the same; and a layer that has such numbers and draws, itself and not by a part of its own.

    Args:
      averages: of `averaged_copies`.
      peers: that they are copies of.

    Attributes:
      layers: these, each once.
      statistics: of these layers, each once; `teach` updates them.
    """

    def __init__(self, averages: Sequence[keras.Model], peers: Sequence[keras.Model]) -> None:
        self._of_networks = [_normalising(a, p) for a, p in zip(averages, peers, strict=True)]
        self.layers = _once([layer for own in self._of_networks for layer in own])
        self.statistics = _once([v for own in self._of_networks for vs in own.values() for v in vs])

    def teach(
        self, averages: sharing.Together, views: Sequence[tf.Tensor]
    ) -> list[Mapping[str, tf.Tensor]]:
        """The outputs of each averaged network on its view; updates the statistics.

        Call it within `told_to_train`: then dropout and all other randomness are off. What the
        networks share moves its statistics once, to the mean of where the views would have moved
        them.
        """
        if averages.sees_one(views):
            return averages(views, training=False)
        counts = [id(v) for own in self._of_networks for vs in own.values() for v in vs]
        shared = [v for v in self.statistics if counts.count(id(v)) > 1]
        before = [tf.identity(v.value) for v in shared]
        outputs, after = [], []
        for network, view in zip(averages.networks, views, strict=True):
            _assign(shared, before)
            outputs.append(network(view, training=False))
            after.append([tf.identity(v.value) for v in shared])
        _assign(shared, [_mean(values) for values in zip(*after, strict=True)])
        return outputs

    @contextlib.contextmanager
    def told_to_train(self) -> Iterator[None]:
        """Within, the layers are called as in training and what they hold is not, whoever calls.

        Keras has one `training` for all layers of a network. With it on, everything random would
        draw: dropout, noise, depth that is dropped, in layers of anybody's. Switching those off
        needs a list of them, which is never complete; these are few and can be told.
        """
        told = {
            part: part in self.layers
            for layer in self.layers
            for part in every_layer(layer)
            if _is_told(part)
        }
        try:
            for layer, training in told.items():
                vars(layer)["call"] = _told(layer.call, training)
            yield
        finally:
            for layer in told:
                vars(layer).pop("call", None)


def averaged_copies(peers: Sequence[keras.Model]) -> list[keras.Model]:
    """Networks of the same architectures, weights and sharing, that nothing trains."""
    joined = sharing.join(peers)
    return [
        copy
        for network in ([joined] if joined else peers)
        for copy in sharing.split(_untrained_copy(network))
    ]


def momentum_for(steps: int, memory: float) -> float:
    """The momentum whose memory `1 / (1 - m)` is a given part of a run's steps; 0 or more."""
    return max(0.0, 1.0 - 1.0 / max(memory * steps, 1.0))


def momentum_at(step: tf.Tensor, momentum: float) -> tf.Tensor:
    """`min(1 - 1 / (t + 1), m)`, scalar float32: the plain mean of all steps until it reaches m."""
    return tf.minimum(1.0 - 1.0 / (tf.cast(step, tf.float32) + 1.0), momentum)


def update(
    averages: Sequence[keras.Variable],
    values: Sequence[keras.Variable],
    momentum: tf.Tensor,
    own: Sequence[keras.Variable] = (),
) -> None:
    """`average <- m * average + (1 - m) * value`, but for those averages that are `own`.

    Whole-number state (counters, seeds) has no average and is copied.
    """
    left = {id(variable) for variable in own}
    rest = 1.0 - momentum
    for average, value in zip(averages, values, strict=True):
        if id(average) in left:
            continue
        if keras.backend.is_float_dtype(average.dtype):
            average.assign(momentum * average + rest * tf.convert_to_tensor(value))
        else:
            average.assign(value)


def _normalising(
    average: keras.Model, peer: keras.Model
) -> dict[keras.layers.Layer, list[keras.Variable]]:
    """The layers of one averaged network that have statistics, with these."""
    pairs = zip(every_layer(average), every_layer(peer), strict=True)
    found = {
        copy: _statistics(copy, layer)
        for copy, layer in pairs
        if layer.trainable and _is_told(layer) and not isinstance(layer, keras.layers.Wrapper)
    }
    return {layer: statistics for layer, statistics in found.items() if statistics}


def _statistics(copy: keras.layers.Layer, layer: keras.layers.Layer) -> list[keras.Variable]:
    """The variables of a layer's copy that are its own and not trained; none if none is a float."""
    of_parts = {id(v) for part in every_layer(layer)[1:] for v in part.weights}
    found = [
        statistic
        for statistic, variable in zip(copy.weights, layer.weights, strict=True)
        if id(variable) not in of_parts and not variable.trainable
    ]
    return found if any(keras.backend.is_float_dtype(v.dtype) for v in found) else []


def _is_told(layer: keras.layers.Layer) -> bool:
    """Whether a layer is told when it is in training."""
    return "training" in inspect.signature(layer.call).parameters


def _told(call: Any, training: bool) -> Any:
    return lambda *args, **kwargs: call(*args, **{**kwargs, "training": training})


def _assign(variables: Sequence[keras.Variable], values: Sequence[tf.Tensor]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _mean(values: Sequence[tf.Tensor]) -> tf.Tensor:
    """Of one dtype with the values, which may be whole numbers."""
    return tf.cast(tf.add_n(list(values)) / len(values), values[0].dtype)


def _once(objects: Sequence[Any]) -> list[Any]:
    return list({id(one): one for one in objects}.values())


def _untrained_copy(network: keras.Model) -> keras.Model:
    copy = keras.models.clone_model(network, clone_function=copy_layer)
    copy.set_weights(network.get_weights())
    # Not copy.trainable = False: a layer that is not trainable keeps to its moving statistics.
    copy.trainable = True
    for variable in copy.variables:
        variable.trainable = False
    return copy
