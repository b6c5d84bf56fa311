"""The devices of a step: each computes its rows of a batch, all the loss of the whole batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_cutnmix.networks.foreign import every_layer

SUM, MEAN = tf.distribute.ReduceOp.SUM, tf.distribute.ReduceOp.MEAN


def synchronise(networks: Sequence[keras.Model]) -> None:
    """Have BatchNormalization see the whole batch, whatever the devices that it is spread over.

    Over one device nothing changes, but for the last bits of Keras' own layer. Call it before
    `OnlineDistiller` makes its averaged copies.
    """
    for network in networks:
        for layer in every_layer(network):
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True


class Replicas:
    """What a step does on every device of a strategy, and what they exchange.

    The model's variables are no mirrored ones: there is one of each in a process, which its
    devices read and which is assigned once, where the devices' results have come together.

    Args:
      strategy: `tf.distribute.MirroredStrategy`, `MultiWorkerMirroredStrategy`, or None for the
        one device that TensorFlow takes by itself.

    Attributes:
      count: of the devices, over all processes.

    Raises:
      ValueError: it is another strategy, or the model is made in a strategy's scope.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None) -> None:
        known = tf.distribute.MirroredStrategy | tf.distribute.MultiWorkerMirroredStrategy
        if not isinstance(strategy, known | None):
            raise ValueError(
                "strategy must be a tf.distribute.MirroredStrategy, a MultiWorkerMirroredStrategy "
                f"or None. Received: {strategy!r}"
            )
        if tf.distribute.has_strategy():
            raise ValueError(
                "OnlineDistiller distributes its steps by itself: build it and its peers outside "
                "of strategy.scope() and pass strategy= to it"
            )
        self.strategy = strategy
        self.count = strategy.num_replicas_in_sync if strategy else 1

    def run(self, function: Callable, *arguments: Any) -> Any:
        """What a function returns on the first of this process' devices; it runs on all."""
        if self.strategy is None:
            return function(*arguments)
        results = self.strategy.run(lambda: function(*arguments))
        return tf.nest.map_structure(
            lambda result: self.strategy.experimental_local_results(result)[0], results
        )

    def rows(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """This device's rows of tensors `[B, ...]`; one object where they are one."""
        if self.count == 1:
            return list(tensors)
        own = {}
        for tensor in tensors:
            if id(tensor) not in own:
                begin, end = self._bounds(tf.shape(tensor)[0])
                own[id(tensor)] = tensor[begin:end]
        return [own[id(tensor)] for tensor in tensors]

    def gathered(
        self, outputs: Sequence[Mapping[str, tf.Tensor]], batch: tf.Tensor
    ) -> Sequence[Mapping[str, tf.Tensor]]:
        """Outputs for all rows of a batch of so many, from those for this device's rows.

        Each is gathered when somebody asks for it. Its gradient is that of all devices.
        """
        if self.count == 1:
            return outputs
        begin, end = self._bounds(batch)
        return [_Gathered(output, begin, batch - end) for output in outputs]

    def reduced(
        self, operation: tf.distribute.ReduceOp, tensors: Sequence[tf.Tensor | None]
    ) -> list[tf.Tensor | None]:
        """The sums or means over all devices, equal on each to the bit; of nothing there is none.

        Whole numbers are those of one device.
        """
        floats = [t is not None and t.dtype.is_floating for t in tensors]
        if self.count == 1 or not any(floats):
            return list(tensors)
        own = [tensor for tensor, is_float in zip(tensors, floats, strict=True) if is_float]
        results = iter(tf.distribute.get_replica_context().all_reduce(operation, own))
        return [next(results) if f else t for t, f in zip(tensors, floats, strict=True)]

    def _bounds(self, batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The first of this device's rows of a batch, and that behind the last."""
        own = tf.distribute.get_replica_context().replica_id_in_sync_group
        return batch * own // self.count, batch * (own + 1) // self.count


class _Gathered(dict):
    """A network's outputs, of all devices: those for this one's rows, between so many others."""

    def __init__(self, own: Mapping[str, tf.Tensor], before: tf.Tensor, behind: tf.Tensor) -> None:
        super().__init__()
        self._own = own
        self._around = [[before, behind]]

    def __missing__(self, name: str) -> tf.Tensor:
        own = self._own[name]
        padded = tf.pad(own, self._around + [[0, 0]] * (own.shape.rank - 1))
        # Each row is a sum of itself and zeros. A gather's gradient would not be a sum.
        self[name] = tf.distribute.get_replica_context().all_reduce(SUM, padded)
        return self[name]
