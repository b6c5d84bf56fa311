"""What is asked of peers that are trained together, and what is known of them."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_cutnmix.errors import InputError
from tf_cutnmix.networks.foreign import every_layer
from tf_cutnmix.networks.sharing import stages

_ANY_SIZE = 64


def check_peers(peers: Sequence[keras.Model]) -> int:
    """The number of classes of all peers, whose inputs and outputs fit together.

    Raises:
      ValueError: they do not, or a peer is no model from images to features and logits.
    """
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
    shapes = [tf.TensorShape(peer.input_shape) for peer in peers]
    if not all(shape.is_compatible_with(shapes[0]) for shape in shapes):
        sizes = [tuple(shape[1:]) for shape in shapes]
        raise ValueError(f"peers must take images of one size. Received: {sizes}")
    if len(set(classes)) > 1:
        raise ValueError(f"peers must tell apart the same classes. Received: {classes} logits")
    if classes[0] < 2:
        raise ValueError(
            "peers must have a logit for each of 2 or more classes; for two classes that is 2. "
            f"Received: {classes} logits"
        )
    return classes[0]


def feature_sizes(peers: Sequence[keras.Model]) -> list[int]:
    """`D_k` of each peer."""
    return [peer.output["features"].shape[-1] for peer in peers]


def num_classes(peers: Sequence[keras.Model]) -> int:
    """`K`, the same for all peers."""
    return peers[0].output["logits"].shape[-1]


def last_maps(method: str, peers: Sequence[keras.Model]) -> tuple[list[str], list[tuple]]:
    """The last stage of each peer, and the shape `(h, w, channels)` of the map at its end.

    Raises:
      InputError: a peer names no stages.
    """
    for number, peer in enumerate(peers, start=1):
        if not stages(peer):
            raise InputError(
                f"--method={method} compares the peers' last maps, and peer {number}, {peer.name}, "
                "names no stages: name another network or method, or pass stages to adapt"
            )
    last = [stages(peer)[-1] for peer in peers]
    shapes = [peer.output[stage].shape[1:] for peer, stage in zip(peers, last, strict=True)]
    return last, shapes


def check_alike(method: str, what: str, sizes: Sequence[Any]) -> None:
    """Raise `InputError` if what a method compares is not of one size for all peers."""
    if len(set(sizes)) > 1:
        raise InputError(
            f"--method={method} compares the peers' {what}, which have unlike sizes {sizes}: name "
            "one architecture"
        )


def adds_losses(peers: Sequence[keras.Model]) -> bool:
    """Whether layers of the peers add losses by themselves: regularizers or `add_loss`."""
    for peer in peers:
        if any(
            layer.activity_regularizer or not type(layer).__module__.startswith("keras.")
            for layer in every_layer(peer)
        ):
            # What they add is known after a call, of images of any size that is not known.
            peer(tf.zeros([1, *(size or _ANY_SIZE for size in peer.input_shape[1:])]))
    return any(peer.losses for peer in peers)


def variables_of(layers: Sequence[keras.Layer]) -> list[keras.Variable]:
    """All variables of some layers, those that they share once."""
    return list({id(v): v for layer in layers for v in layer.variables}.values())
