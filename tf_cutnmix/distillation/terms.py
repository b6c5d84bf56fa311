"""Terms of the loss that several methods have in common."""

from collections.abc import Sequence

import tensorflow as tf

from tf_cutnmix.distillation import losses
from tf_cutnmix.distillation.method import Forward, Method, Part, Term


def peers_cross_entropy(forward: Forward) -> tf.Tensor:
    """`sum_i CE(w y, z_i)`, w the weights of the classes."""
    labels = forward.weighted_labels
    return tf.add_n([losses.cross_entropy(labels, logits) for logits in forward.logits])


CROSS_ENTROPY = Term("cross_entropy", peers_cross_entropy)


def imitate_each(
    forward: Forward,
    targets: Sequence[tf.Tensor],
    temperature: float,
    *,
    stop_target: bool = True,
) -> tf.Tensor:
    """`sum_i KD(t_i -> i)` over the peers that have a target."""
    pairs = zip(targets, forward.logits, strict=False)
    return tf.add_n(
        [losses.imitation(t, z, temperature, stop_target=stop_target) for t, z in pairs]
    )


def mutual(
    forward: Forward, temperature: float, targets: Sequence[tf.Tensor] | None = None
) -> tf.Tensor:
    """`sum_i mean_{j != i} KD(t_j -> i)`, the targets the peers' own logits unless given.

    It is 0 for a single peer.
    """
    logits = forward.logits
    if len(logits) == 1:
        return tf.constant(0.0)
    targets = logits if targets is None else targets
    pairs = [(j, i) for i in range(len(logits)) for j in range(len(logits)) if j != i]
    distances = [losses.imitation(targets[j], logits[i], temperature) for j, i in pairs]
    return tf.add_n(distances) / (len(logits) - 1)


def ensemble_terms(part: Part, method: Method) -> list[Term]:
    """An ensemble's logits, trained by cross-entropy, teach each peer."""

    def teach(forward: Forward) -> tf.Tensor:
        logits = forward.parts[part.name]
        return imitate_each(forward, [logits] * len(forward.logits), method.temperature)

    def learn(forward: Forward) -> tf.Tensor:
        return losses.cross_entropy(forward.weighted_labels, forward.parts[part.name])

    return [
        Term(f"{part.name}_cross_entropy", learn, part=part),
        Term(part.name, teach, ramped=True, part=part),
    ]
