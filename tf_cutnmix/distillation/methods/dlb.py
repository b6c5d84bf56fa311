"""Self-distillation from the last mini-batch (Shen et al. 2022)."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from tf_cutnmix.distillation import losses
from tf_cutnmix.distillation.method import Forward, Memory, Method, Peers, Term, recipe
from tf_cutnmix.distillation.peers import num_classes
from tf_cutnmix.errors import InputError


@recipe()
def dlb(method: Method, peers: Peers) -> list[Term]:
    """Self-distillation from the last mini-batch: `sum_i CE_i + KD(z'_i -> i)`.

    Shen et al. 2022: each step also trains on the batch before it, augmented again, and each
    peer imitates there its predictions of one step earlier (z'); CE is the mean over both batches.
    A batch is mixed the second time as it was the first (our definition), so that its labels and
    z' still hold. Costs two batches a step.
    """
    if method.batch_size is None:
        raise InputError("--method=dlb needs to know the batch size: pass batch_size to Method")

    def imitate_the_past(forward: Forward) -> tf.Tensor:
        past = tf.unstack(forward.parts["last_batch"])
        again = [logits[: method.batch_size] for logits in forward.logits]
        loss = losses.imitate_each(past, again, method.temperature)
        return tf.where(tf.equal(forward.step, 0), 0.0, loss)

    return [Term("last_batch", imitate_the_past, part=LastBatch(peers, method.batch_size))]


class LastBatch(Memory):
    """The batch before this one and the peers' logits for it, `[n, B, K]`.

    At the first step there is none, and the batch itself takes its place.
    """

    def __init__(self, peers: Peers, batch_size: int) -> None:
        super().__init__("last_batch")
        classes = num_classes(peers)
        self.images = self._memory("images", (batch_size, *peers[0].input_shape[1:]))
        self.labels = self._memory("labels", (batch_size, classes))
        self.logits = self._memory("logits", (len(peers), batch_size, classes))

    def call(self, forward: Forward) -> tf.Tensor:
        return tf.identity(self.logits.value)

    def recall(
        self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The last batch's images, of the dtype of these, and its labels `[B, K]`."""
        if images.shape[0] not in (None, self.images.shape[0]):
            raise ValueError(
                f"dlb was made for batches of {self.images.shape[0]} images and cannot take one "
                f"of {images.shape[0]}: give Method its batch_size, and drop the remainder"
            )
        first = tf.equal(step, 0)
        return (
            tf.where(first, images, tf.cast(self.images.value, images.dtype)),
            tf.where(first, labels, self.labels.value),
        )

    def remember(self, images: tf.Tensor, labels: tf.Tensor, logits: Sequence[tf.Tensor]) -> None:
        """Take a batch; the last `B` rows of each peer's logits are on its views."""
        self.images.assign(tf.cast(images, tf.float32))
        self.labels.assign(labels)
        self.logits.assign(tf.stack([z[-self.images.shape[0] :] for z in logits]))

    def _memory(self, name: str, shape: tuple[int, ...]) -> keras.Variable:
        return self.add_weight(shape, "zeros", "float32", trainable=False, name=name)
