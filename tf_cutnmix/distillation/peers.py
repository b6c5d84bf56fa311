"""What the networks that are trained together must be."""

from collections.abc import Sequence

import keras


def check_peers(peers: Sequence[keras.Model]) -> int:
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


def feature_sizes(peers: Sequence[keras.Model]) -> list[int]:
    """`D_k` of each peer."""
    return [peer.output["features"].shape[-1] for peer in peers]


def num_classes(peers: Sequence[keras.Model]) -> int:
    """`K`, the same for all peers."""
    return peers[0].output["logits"].shape[-1]
