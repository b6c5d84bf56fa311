"""The devices of a step: each computes its rows of a batch, all the loss of the whole batch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_cutnmix.networks.foreign import every_layer

_SUM, _MEAN = tf.distribute.ReduceOp.SUM, tf.distribute.ReduceOp.MEAN


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
    """What a step does on every device of a strategy, and what they tell each other.

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

    def sum(self, tensors: Sequence[tf.Tensor | None]) -> list[tf.Tensor | None]:
        """The sums over all devices, equal on each to the bit; of nothing there is none."""
        return self._reduced(_SUM, tensors)

    def mean(self, tensors: Sequence[tf.Tensor | None]) -> list[tf.Tensor | None]:
        """The means over all devices, likewise; whole numbers are those of one device."""
        floats = [None if t is None or not t.dtype.is_floating else t for t in tensors]
        means = self._reduced(_MEAN, floats)
        return [own if mean is None else mean for own, mean in zip(tensors, means, strict=True)]

    def _reduced(
        self, operation: tf.distribute.ReduceOp, tensors: Sequence[tf.Tensor | None]
    ) -> list[tf.Tensor | None]:
        present = [tensor for tensor in tensors if tensor is not None]
        if self.count == 1 or not present:
            return list(tensors)
        context = tf.distribute.get_replica_context()
        reduced = iter(context.all_reduce(operation, present))
        return [None if tensor is None else next(reduced) for tensor in tensors]

    def _bounds(self, batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The first of this device's rows of a batch, and that behind the last."""
        own = tf.distribute.get_replica_context().replica_id_in_sync_group
        return batch * own // self.count, batch * (own + 1) // self.count


class _Gathered(Mapping):
    """A network's outputs, of all devices.

    Args:
      own: the outputs for this device's rows.
      before: how many rows of the batch are before these.
      behind: how many are behind them.
    """

    def __init__(self, own: Mapping[str, tf.Tensor], before: tf.Tensor, behind: tf.Tensor) -> None:
        self._own = own
        self._around = [[before, behind]]
        self._all: dict[str, tf.Tensor] = {}

    def __getitem__(self, name: str) -> tf.Tensor:
        if name not in self._all:
            own = self._own[name]
            padded = tf.pad(own, self._around + [[0, 0]] * (own.shape.rank - 1))
            # Each row is a sum of itself and zeros. A gather's gradient would not be a sum.
            context = tf.distribute.get_replica_context()
            self._all[name] = context.all_reduce(_SUM, padded)
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)
