"""The soup of a run whose peers are drawn to their mean."""

import keras

from tf_cutnmix.data import shuffled_batches
from tf_cutnmix.distillation import OnlineDistiller, soup
from tf_cutnmix.runs.build import steps_per_epoch
from tf_cutnmix.runs.config import Config
from tf_cutnmix.runs.loading import batch_size
from tf_cutnmix.runs.splits import Splits

_MOST_BATCHES = 100


def build_soup(model: OnlineDistiller, splits: Splits, config: Config) -> keras.Model:
    """One network of the mean weights that the model's peers have now.

    Its statistics are of the training images of the first 100 batches of the run, or of all that an
    epoch has, neither cropped nor mixed: a function of the peers and the run's seed.
    """
    size = batch_size(config, splits.train)
    batches = shuffled_batches(splits.train, size, seed=config.seed)
    count = min(steps_per_epoch(splits.train, config), _MOST_BATCHES)
    return soup.average_network(model.peers, (pixels for pixels, _ in batches.take(count)))
