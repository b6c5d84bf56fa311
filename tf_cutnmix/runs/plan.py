"""What a run is, once its images are known: resolved once, and handed on."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_cutnmix.data import endless_batches, has_direction, shuffled_batches
from tf_cutnmix.errors import InputError
from tf_cutnmix.mixing import interleave
from tf_cutnmix.runs import scores
from tf_cutnmix.runs.checkpoints import Checkpoint
from tf_cutnmix.runs.config import Config, with_defaults
from tf_cutnmix.runs.loading import Splits

_LARGEST_BATCH = 128
_SMALLEST_BATCH = 8
_BATCHES_AN_EPOCH = 8
_LARGE = 65
_CROP = 0.125


@dataclasses.dataclass(frozen=True)
class Plan:
    """Settings and images, and what follows from both.

    Attributes:
      config: the settings; what was left open has a value.
      splits: the images.
      statistics: mean and deviation of each channel, by which the networks normalise.
    """

    config: Config
    splits: Splits
    statistics: Sequence[Sequence[float]]

    @property
    def batch_size(self) -> int:
        """Labelled images per step."""
        assert self.config.batch_size is not None
        return self.config.batch_size

    @property
    def ratio(self) -> int:
        """Unlabelled images of a step for each labelled one."""
        return self.config.unlabelled_ratio if self.splits.unlabelled else 0

    @property
    def rows_per_step(self) -> int:
        """Images of a step, labelled or not."""
        return self.batch_size * (1 + self.ratio)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training images."""
        return len(self.splits.train.labels) // self.batch_size

    @property
    def steps(self) -> int:
        """Of the run as it was begun: what ends within it ends there in a longer one too."""
        return self.steps_per_epoch * self.config.stretches[0]

    @property
    def class_weights(self) -> list[float]:
        """For `--balance=weights`, so that all classes count as much; the mean over images is 1."""
        counts = self.splits.train.counts
        share = counts.sum() / np.count_nonzero(counts)
        return (share / np.maximum(counts, 1)).tolist()

    @property
    def calibrates(self) -> bool:
        """Whether the probabilities of exports are calibrated on the validation images."""
        choice, images = self.config.calibrate, len(self.splits.validation.labels)
        return choice == "on" or (choice == "auto" and images >= scores.ENOUGH)

    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {
            "class_names": self.splits.train.class_names,
            "statistics": self.statistics,
            "flags": self.config.flagfile(),
        }

    def batches(self, first_epoch: int, first_batch: int = 0) -> tf.data.Dataset:
        """Endless batches of the training images, from a batch of an epoch on.

        With unlabelled images they are those of `interleave`.
        """
        labelled = shuffled_batches(
            self.splits.train,
            self.batch_size,
            seed=self.config.seed,
            first_epoch=first_epoch,
            balanced=self.config.balance == "sampling",
        ).skip(first_batch)
        if self.splits.unlabelled is None:
            return labelled
        others = endless_batches(
            self.splits.unlabelled,
            self.batch_size * self.ratio,
            seed=self.config.seed,
            first_batch=first_epoch * self.steps_per_epoch + first_batch,
        )
        classes = len(self.splits.train.class_names)
        pairs = tf.data.Dataset.zip(labelled, others)
        return pairs.map(functools.partial(interleave, num_classes=classes))


def resolve(config: Config, splits: Splits, earlier: Checkpoint | None = None) -> Plan:
    """The plan of a run on these images, with the statistics of an earlier checkpoint, if any.

    Raises:
      InputError: there are fewer training images than a batch has.
    """
    images = len(splits.train.labels)
    size = config.batch_size or _batch_size(images)
    if size > images:
        raise InputError(
            f"--batch_size={size} is larger than the {images} training images: lower it"
        )
    if config.augment is None or config.crop is None:
        config = _augmented(config, splits.train.pixels.shape[1:3])
    statistics = earlier.facts.get("statistics") if earlier else None
    return Plan(
        with_defaults(dataclasses.replace(config, batch_size=size)),
        splits,
        statistics or splits.train.statistics(),
    )


def mirrors(config: Config) -> bool:
    """Whether images are mirrored at random."""
    return config.flip == "on" or (config.flip == "auto" and not has_direction(config.dataset))


def _augmented(config: Config, size: tuple[int, int]) -> Config:
    """The settings with what is right for images of a size: of large ones padding is seen."""
    padded = min(size) < _LARGE or has_direction(config.dataset)
    photo = not padded and config.crop is None
    augment = config.augment or ("photo" if photo else "none")
    crop = config.crop
    if crop is None:
        crop = _CROP if padded and augment != "photo" else 0.0
    return dataclasses.replace(config, augment=augment, crop=crop)


def _batch_size(images: int) -> int:
    """What is right for so many images."""
    eighth = images // _BATCHES_AN_EPOCH
    return min(_LARGEST_BATCH, max(_SMALLEST_BATCH, 2 ** (max(eighth, 1).bit_length() - 1)))
