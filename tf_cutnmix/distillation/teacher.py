"""The self-ensemble teacher: a moving average of every peer's weights.

While they teach, the averaged networks normalise as the peers do, by the batch that they see
(as the mean teacher of Tarvainen and Valpola 2017 and PCL's code do). Their moving statistics
are their own, of what they saw, for evaluation and export: an average of the peers' would lag
behind weights that move fast. Where nothing is learnt from them they see nothing, and their
statistics are averaged as their weights are.
"""

import collections
import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import keras
import tensorflow as tf

from tf_cutnmix.networks import sharing
from tf_cutnmix.networks.foreign import copy_layer, every_layer


class Normalising:
    """The layers of averaged networks that normalise by the batch while they teach.

    These are the layers, at any depth, that have statistics: numbers of their own that are not
    trained, and a `training` argument to say when they are updated. Layers that are frozen
    (`trainable=False`) in a peer are left out, and so are wrappers, whose numbers are about the
    weights of what they wrap. Two things cannot be known from outside: a layer that calls a part
    of its own with `training=False` whatever it is called with, where freezing that part says
    the same; and a layer that has such numbers and draws, itself and not by a part of its own.

    Args:
      networks: that teach, each with the peer that it is a copy of.

    Attributes:
      layers: these, each once, with their statistics.
      statistics: of these layers, each once; `teach` updates them.
    """

    def __init__(self, networks: Iterable[tuple[keras.Model, keras.Model]]) -> None:
        each = [_layers_with_statistics(average, peer) for average, peer in networks]
        self.layers = {layer: own for layers in each for layer, own in layers.items()}
        self.statistics = [v for own in self.layers.values() for v in own]
        uses = collections.Counter(layer for layers in each for layer in layers)
        self._shared = [v for layer, own in self.layers.items() if uses[layer] > 1 for v in own]

    def teach(
        self, averages: sharing.Together, views: Sequence[tf.Tensor]
    ) -> list[Mapping[str, tf.Tensor]]:
        """The outputs of each averaged network on its view; updates the statistics.

        Call it within `by_batch`: then dropout and all other randomness are off. What the
        networks share moves its statistics once, to the mean of where the views would have moved
        them.
        """
        if averages.sees_one(views):
            return averages(views, training=False)
        before = [tf.identity(v.value) for v in self._shared]
        outputs, after = [], []
        for network, view in zip(averages.networks, views, strict=True):
            for variable, value in zip(self._shared, before, strict=True):
                variable.assign(value)
            outputs.append(network(view, training=False))
            after.append([tf.identity(v.value) for v in self._shared])
        for variable, values in zip(self._shared, zip(*after, strict=True), strict=True):
            # Some may be whole numbers.
            variable.assign(tf.cast(tf.add_n(list(values)) / len(values), values[0].dtype))
        return outputs

    @contextlib.contextmanager
    def by_batch(self) -> Iterator[None]:
        """Within, the layers are called as in training and what they hold is not, whoever calls.

        Keras has one `training` for all layers of a network. With it on, everything random would
        draw: dropout, noise, depth that is dropped, in layers of anybody's. Switching those off
        needs a list of them, which is never complete; these are few and can be named.
        """
        modes = {
            part: part in self.layers
            for layer in self.layers
            for part in every_layer(layer)
            if _takes_training(part)
        }
        try:
            for layer, training in modes.items():
                vars(layer)["call"] = _always(layer.call, training)
            yield
        finally:
            for layer in modes:
                vars(layer).pop("call", None)


def averaged_copies(peers: Sequence[keras.Model]) -> list[keras.Model]:
    """Networks of the same architectures, weights and sharing, that nothing trains."""
    joined = sharing.join(peers)
    copies = []
    for network in [joined] if joined else peers:
        copy = keras.models.clone_model(network, clone_function=copy_layer)
        copy.set_weights(network.get_weights())
        # Not copy.trainable = False: a layer that is not trainable keeps to its moving statistics.
        copy.trainable = True
        for variable in copy.variables:
            variable.trainable = False
        copies += sharing.split(copy)
    return copies


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


def _layers_with_statistics(
    average: keras.Model, peer: keras.Model
) -> dict[keras.layers.Layer, list[keras.Variable]]:
    """The layers of one averaged network that `Normalising` is about, with their statistics."""
    found = {}
    for copy, layer in zip(every_layer(average), every_layer(peer), strict=True):
        wrapper = isinstance(layer, keras.layers.Wrapper)
        if layer.trainable and not wrapper and _takes_training(layer):
            of_parts = {id(v) for part in every_layer(layer)[1:] for v in part.weights}
            own = [
                statistic
                for statistic, variable in zip(copy.weights, layer.weights, strict=True)
                if id(variable) not in of_parts and not variable.trainable
            ]
            if any(keras.backend.is_float_dtype(v.dtype) for v in own):
                found[copy] = own
    return found


def _takes_training(layer: keras.layers.Layer) -> bool:
    return "training" in inspect.signature(layer.call).parameters


def _always(call: Callable, training: bool) -> Callable:
    """A layer's `call` with one mode, whatever it is called with."""
    return lambda *args, **kwargs: call(*args, **{**kwargs, "training": training})
