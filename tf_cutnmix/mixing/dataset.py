"""Mixing as a map of a `tf.data` dataset."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tf_cutnmix.mixing.batch import MIXED
from tf_cutnmix.mixing.layer import Mixing


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
    step i, however many calls run in parallel; each later pass over the dataset draws anew.

    Args:
      mixing: the layer; its own count of calls is neither used nor changed.
      device: "auto" for the GPU when there is one and the host if not, or a device's name,
        such as "/gpu:0" or "/cpu:0".
      jit_compile: whether XLA compiles the map.
      num_parallel_calls: as of `tf.data.Dataset.map`; of use on the host only.

    Returns:
      A function of a dataset of pairs `(images, labels)` or of dictionaries as of `Mixing`,
      to a dataset of the same kind.
    """
    if device == "auto":
        device = "/gpu:0" if tf.config.list_physical_devices("GPU") else "/cpu:0"

    @tf.function(jit_compile=jit_compile, autograph=False)
    def mix_checked(step: tf.Tensor, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return mixing(batch, training=True, step=step)

    def mix_named(step: tf.Tensor, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        # XLA would drop the check of the labels' range, and compiles no strings.
        checked = mixing.check(batch)
        mixed = mix_checked(step, {name: checked[name] for name in MIXED if name in checked})
        return {**checked, **mixed}

    def mix(step: tf.Tensor, batch: Any) -> Any:
        if isinstance(batch, Mapping):
            return mix_named(step, batch)
        images, labels = batch
        mixed = mix_named(step, {"images": images, "labels": labels})
        return mixed["images"], mixed["labels"]

    def transform(dataset: tf.data.Dataset) -> tf.data.Dataset:
        passes = itertools.count()
        this_pass = tf.data.Dataset.from_generator(
            lambda: iter([next(passes)]), output_signature=tf.TensorSpec([], tf.int64)
        )
        numbered = this_pass.flat_map(lambda number: dataset.enumerate(number * 2**32))
        if dataset.cardinality() != tf.data.UNKNOWN_CARDINALITY:
            length = tf.data.experimental.assert_cardinality(dataset.cardinality())
            numbered = numbered.apply(length)
        if tf.DeviceSpec.from_string(device).device_type == "GPU":
            numbered = numbered.apply(tf.data.experimental.copy_to_device(device))
            with tf.device(device):
                return numbered.map(mix).prefetch(1)
        return numbered.map(mix, num_parallel_calls=num_parallel_calls, deterministic=True)

    return transform
