"""The input pipeline: from images in memory to shuffled, cropped, mirrored and mixed batches."""

from collections.abc import Callable, Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf
import torch

from benchmarks import pytorch, turns
from benchmarks.tables import Row
from tf_cutnmix import CutNMix, mix_dataset
from tf_cutnmix.data import Images, shuffled_batches
from tf_cutnmix.mixing.augment import CropAndFlip

TITLE = (
    "Images a second over one epoch of CIFAR-10's shape, batch 128: shuffled, cropped, mirrored, "
    "mixed into n views. The usual pipelines call keras.layers.CutMix n times; PyTorch's usual one "
    "makes one view, with one box for a batch."
)
_BATCH = 128
_NUM_CLASSES = 10


def rows(quick: bool) -> Iterator[Row]:
    """A row for each number of views."""
    count = 10 * _BATCH if quick else 50_000
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, [count, 32, 32, 3], np.uint8)
    labels = generator.integers(0, _NUM_CLASSES, count).astype(np.int32)
    for num_views in (2,) if quick else (1, 2, 4):
        programs = {
            "ours": _ours(pixels, labels, num_views),
            "tf.data, image by image": _usual(pixels, labels, num_views),
            "tf.data, Keras layers": _usual_layers(pixels, labels, num_views),
            "PyTorch DataLoader": _torch_usual(pixels, labels),
            "PyTorch, whole batches": _torch_fast(pixels, labels, num_views),
        }
        times = turns.in_turns(programs, seconds=60, warm_up=1, least=1 if quick else 3, most=5)
        yield {
            "n": num_views,
            **{
                f"{name}, images/s": turns.summary([count / t * 1e3 for t in values])
                for name, values in times.items()
            },
            **{
                f"ours / {name}": turns.ratio(times, name, "ours")
                for name in programs
                if name != "ours"
            },
        }


def _consume(batches: Iterable) -> Callable:
    def consume() -> None:
        for _ in batches:
            pass

    return consume


def _ours(pixels: np.ndarray, labels: np.ndarray, num_views: int) -> Callable:
    images = Images(pixels, labels, tuple(map(str, range(_NUM_CLASSES))))
    augment = CropAndFlip(seed=0)

    @tf.function(jit_compile=True)
    def crop_and_flip(step: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        return augment(images, step=step)

    batches = shuffled_batches(images, _BATCH, seed=0).take(len(pixels) // _BATCH).enumerate()
    batches = batches.map(
        lambda step, batch: (crop_and_flip(step, batch[0]), batch[1]),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    mix = CutNMix(num_views, num_classes=_NUM_CLASSES, seed=0)
    return _consume(batches.apply(mix_dataset(mix)).prefetch(2))


def _usual(pixels: np.ndarray, labels: np.ndarray, num_views: int) -> Callable:
    def crop_and_flip(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        padded = tf.image.pad_to_bounding_box(image, 4, 4, 40, 40)
        cropped = tf.image.random_crop(padded, [32, 32, 3])
        return tf.image.random_flip_left_right(cropped), tf.one_hot(label, _NUM_CLASSES)

    dataset = tf.data.Dataset.from_tensor_slices((pixels, labels)).shuffle(len(pixels))
    dataset = dataset.map(crop_and_flip, num_parallel_calls=tf.data.AUTOTUNE)
    return _consume(_cutmix(dataset.batch(_BATCH, drop_remainder=True), num_views))


def _usual_layers(pixels: np.ndarray, labels: np.ndarray, num_views: int) -> Callable:
    crop = keras.layers.RandomCrop(32, 32)
    flip = keras.layers.RandomFlip("horizontal")

    def crop_and_flip(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        padded = tf.image.pad_to_bounding_box(images, 4, 4, 40, 40)
        cropped = flip(crop(padded, training=True), training=True)
        return cropped, tf.one_hot(labels, _NUM_CLASSES)

    dataset = tf.data.Dataset.from_tensor_slices((pixels, labels)).shuffle(len(pixels))
    dataset = dataset.batch(_BATCH, drop_remainder=True)
    dataset = dataset.map(crop_and_flip, num_parallel_calls=tf.data.AUTOTUNE)
    return _consume(_cutmix(dataset, num_views))


def _cutmix(batches: tf.data.Dataset, num_views: int) -> tf.data.Dataset:
    layer = keras.layers.CutMix()

    def mix(images: tf.Tensor, labels: tf.Tensor) -> list[dict[str, tf.Tensor]]:
        batch = {"images": images, "labels": labels}
        return [layer(batch, training=True) for _ in range(num_views)]

    return batches.map(mix, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _torch_usual(pixels: np.ndarray, labels: np.ndarray) -> Callable:
    return _consume(
        pytorch.usual_batches(pixels, labels, _NUM_CLASSES, batch_size=_BATCH, num_workers=2)
    )


def _torch_fast(pixels: np.ndarray, labels: np.ndarray, num_views: int) -> Callable:
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # channels_last memory
    soft = torch.nn.functional.one_hot(torch.from_numpy(labels).long(), _NUM_CLASSES).float()

    def consume() -> None:
        for _ in pytorch.fast_batches(images, soft, batch_size=_BATCH, num_peers=num_views):
            pass

    return consume
