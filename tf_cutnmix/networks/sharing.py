"""Peers that share their first stages, computed once for all of them.

Sharing cuts networks at the end of a stage, whatever their architecture, and joins all of
them to the first one's beginning. Peers share exactly if they have one input in common.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_cutnmix.errors import InputError
from tf_cutnmix.networks.foreign import copy_layer


def stages(network: keras.Model) -> tuple[str, ...]:
    """The stages that a peer knows, such as `("stem", "stage1", "stage2")`; () if none."""
    output = getattr(network, "output", None)
    endpoints = output if isinstance(output, dict) else {}
    possible = ("stem", *(f"stage{number}" for number in range(1, len(endpoints) + 1)))
    return tuple(name for name in possible if name in endpoints)


@keras.saving.register_keras_serializable("tf_cutnmix")
class MeanGradient(keras.layers.Layer):
    """The identity, whose gradient is divided by a number.

    Placed where `number` branches leave a shared trunk, it gives the trunk the mean of their
    gradients instead of the sum (Song and Chai 2018, "backpropagation rescaling").
    """

    def __init__(self, number: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.number = number

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        @tf.custom_gradient
        def identity(x: tf.Tensor) -> tuple:
            return tf.identity(x), lambda upstream: upstream / self.number

        return identity(inputs)

    def get_config(self) -> dict:
        return {**super().get_config(), "number": self.number}


def share_stages(
    peers: Sequence[keras.Model], stage: str, *, mean_gradient: bool = False
) -> list[keras.Model]:
    """Peers that share everything up to the end of a stage.

    The shared part is that of the first peer; what comes after it is every peer's own, with
    the weights that it had. The peers that were passed are not to be used any more.

    Args:
      peers: networks with their stages among their outputs, as of `build_network`.
      stage: the last one that is shared, such as "stem" or "stage2".
      mean_gradient: whether the shared part gets the mean of the peers' gradients; else the sum.

    Raises:
      TypeError: a peer is no model, or there are no peers.
      InputError: a peer does not know the stage, or the peers differ in shape at its end.
    """
    if not (peers and all(isinstance(peer, keras.Model) for peer in peers)):
        raise TypeError(f"peers must be one or more models. Received: {peers!r}")
    for number, peer in enumerate(peers, start=1):
        known = stages(peer)
        if stage not in known:
            raise InputError(
                f"--share={stage}: peer {number}, {peer.name}, "
                + (f"has the stages {', '.join(known)}" if known else "names no stages")
            )
    shapes = [tuple(peer.output[stage].shape[1:]) for peer in peers]
    if len(set(shapes)) > 1:
        raise InputError(
            f"--share={stage}: the peers' maps at its end are of unlike shapes {shapes}; share an "
            "earlier stage, or name one architecture"
        )
    first, known = peers[0], stages(peers[0])
    shared = {name: first.output[name] for name in known[: known.index(stage) + 1]}
    end = MeanGradient(len(peers))(shared[stage]) if mean_gradient else shared[stage]
    branches = [_branch(peer, stage, end, f"peer{k}") for k, peer in enumerate(peers, start=1)]
    return [
        keras.Model(first.input, {**shared, **branch}, name=peer.name)
        for peer, branch in zip(peers, branches, strict=True)
    ]


def shared_stage(peers: Sequence[keras.Model]) -> str | None:
    """The last stage that all peers have in common, or None."""
    first, *others = peers
    common = [
        name
        for name in stages(first)
        if all(peer.output.get(name) is first.output[name] for peer in others)
    ]
    return common[-1] if common and others else None


def join(peers: Sequence[keras.Model]) -> keras.Model | None:
    """One model with the list of the peers' outputs, if they share their input; else None.

    Raises:
      ValueError: peers share weights and not their input.
    """
    if len(peers) > 1 and all(peer.input is peers[0].input for peer in peers):
        return keras.Model(peers[0].input, [peer.output for peer in peers])
    weights = [id(variable) for peer in peers for variable in peer.variables]
    if len(set(weights)) < len(weights):
        raise ValueError(
            "peers share weights but not their input: build them apart, then use share_stages"
        )
    return None


def split(model: keras.Model) -> list[keras.Model]:
    """The peers of a joined model; a model of one peer is that peer."""
    if not isinstance(model.output, list):
        return [model]
    return [keras.Model(model.input, output) for output in model.output]


class Together:
    """Networks run side by side: what they share is computed once where they see one view."""

    def __init__(self, networks: Sequence[keras.Model]) -> None:
        self.networks = list(networks)
        self.joined: Any = join(networks)

    def __call__(self, views: Sequence[tf.Tensor], training: bool) -> list[Mapping[str, tf.Tensor]]:
        """Each network's outputs on its view."""
        if self.sees_one(views):
            return self.joined(views[0], training=training)
        return [n(v, training=training) for n, v in zip(self.networks, views, strict=True)]

    def own_losses(self, added: Sequence[tf.Tensor]) -> tf.Tensor:
        """The sum of what layers add to a loss by themselves, scalar float32.

        Args:
          added: by `add_loss` and for activities, in a call. Of layers that are shared and were
            called for each view, the last one counts.
        """
        weights = {id(v): v for n in self.networks for v in n.trainable_weights}.values()
        regularised = [v.regularizer(v) for v in weights if v.regularizer is not None]
        return tf.add_n([tf.cast(loss, tf.float32) for loss in (*added, *regularised)])

    def sees_one(self, views: Sequence[tf.Tensor]) -> bool:
        """Whether the networks share stages and one view, so that one call computes all."""
        return self.joined is not None and all(view is views[0] for view in views)


def _branch(
    peer: keras.Model, stage: str, start: keras.KerasTensor, prefix: str
) -> dict[str, keras.KerasTensor]:
    """The outputs of a peer after a stage, computed from another tensor by copied layers."""
    known = stages(peer)
    shared = known[: known.index(stage) + 1]
    outputs = {name: tensor for name, tensor in peer.output.items() if name not in shared}
    rest = keras.Model(peer.output[stage], outputs)
    branch = keras.models.clone_model(
        rest, clone_function=lambda layer: copy_layer(layer, name=f"{prefix}_{layer.name}")
    )
    branch.set_weights(rest.get_weights())
    # Not branch(start), which would nest a model in the model.
    return branch.call(start)
