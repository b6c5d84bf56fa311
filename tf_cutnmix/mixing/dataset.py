"""Mixing as a map of a `tf.data` dataset."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_cutnmix.mixing.batch import WEIGHTS, sides, weigh
from tf_cutnmix.mixing.layers import Mixing


def mix_dataset(
    mixing: Mixing,
    *,
    device: str = "auto",
    jit_compile: bool = True,
    num_parallel_calls: int = tf.data.AUTOTUNE,
) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """A transformation that mixes the batches of a `tf.data.Dataset`.

    ```python
    dataset = dataset.batch(128).apply(mix_dataset(CutNMix(2, num_classes=10, seed=0)))
    ```

    It numbers the batches itself: batch i of the first pass is mixed as the layer mixes at
    step i, however many calls run in parallel; each later pass over the dataset has new draws. An
    iterator can be checkpointed: restored, it continues its pass as it would have; the passes
    after it are those that this process has not made yet.

    Args:
      mixing: the layer; its own count of calls is neither used nor changed.
      device: "auto" for the GPU when there is one and the host if not, or a name as "/cpu:0".
      jit_compile: whether XLA compiles the map.
      num_parallel_calls: as of `tf.data.Dataset.map`; of use on the host only.

    Returns:
      A function of a dataset of pairs `(images, labels)`, of triples with weights of samples
      `[B]` or `[B, 1]` or of dictionaries as of `Mixing`, which may hold them as "sample_weight",
      to a dataset of the same kind, with weights `[B]` float32. Weights are mixed as labels are: a
      cross-entropy counts each part of a mixed sample by the weight that it had. Weights of one
      change nothing; what counts nothing has a label of zeros.

    Raises:
      ValueError: the mixing is somebody else's layer.
    """
    if not isinstance(mixing, Mixing):
        raise ValueError(
            "mix_dataset numbers the batches for layers of tf_cutnmix.mixing; map any other: "
            f"dataset.map(layer). Received: {mixing!r}"
        )
    if device == "auto":
        device = "/gpu:0" if tf.config.list_physical_devices("GPU") else "/cpu:0"

    @tf.function(jit_compile=jit_compile, autograph=False)
    def mix_checked(step: tf.Tensor, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        if WEIGHTS not in batch:
            return mixing(batch, training=True, step=step)
        weights, size = batch[WEIGHTS], sides(batch["images"])
        draw = mixing.draw_for(batch, step)
        mixed = mixing.apply({**batch, "labels": weigh(batch["labels"], weights)}, draw)
        weights = mixing.mix_labels(weights[:, None], draw, *size)[:, 0]
        labels = tf.math.divide_no_nan(mixed["labels"], weights[:, None])
        return {**mixed, "labels": labels, WEIGHTS: weights}

    def mix_named(step: tf.Tensor, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        # XLA would drop the check of the labels' range, and compiles no strings.
        checked = mixing.check(batch)
        if WEIGHTS in checked:
            weights = tf.cast(checked[WEIGHTS], tf.float32)
            checked[WEIGHTS] = tf.reshape(weights, tf.shape(checked["labels"])[:1])
        names = [name for name in ("images", "labels", WEIGHTS) if name in checked]
        return {**checked, **mix_checked(step, {name: checked[name] for name in names})}

    def mix(step: tf.Tensor, batch: Any) -> Any:
        if isinstance(batch, Mapping):
            return mix_named(step, batch)
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)
        named = {"images": images, "labels": labels}
        mixed = mix_named(step, named if weights is None else {**named, WEIGHTS: weights})
        return tuple(mixed.values())

    def transform(dataset: tf.data.Dataset) -> tf.data.Dataset:
        passes = tf.Variable(-1, dtype=tf.int64, trainable=False)
        this_pass = tf.data.Dataset.from_tensors(np.int64(1)).map(passes.assign_add)
        numbered = this_pass.flat_map(lambda number: dataset.enumerate(number * 2**32))
        # The number of a pass that has begun is in an iterator's checkpoint, their count is not.
        options = tf.data.Options()
        options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.WARN
        numbered = numbered.with_options(options)
        if dataset.cardinality() != tf.data.UNKNOWN_CARDINALITY:
            length = tf.data.experimental.assert_cardinality(dataset.cardinality())
            numbered = numbered.apply(length)
        if tf.DeviceSpec.from_string(device).device_type == "GPU":
            numbered = numbered.apply(tf.data.experimental.copy_to_device(device))
            with tf.device(device):
                return numbered.map(mix).prefetch(1)
        return numbered.map(mix, num_parallel_calls=num_parallel_calls, deterministic=True)

    return transform
