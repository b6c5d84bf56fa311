"""Train a bundle of write_bundle.py on the device of JAX: `python -m run_bundle DIR PACK.npz`.

Needs jax, numpy and Pillow, and nothing else of this project: the folder may be copied alone,
and its files find each other by relative imports. Read files, bundle, training, `__main__`.
The batches are those of a run of `tf_cutnmix.train` with the bundle's flags, in their order; the
state (weights, optimizer, moving averages, counters) stays on the device between calls.

    python -m run_bundle bundle cifar10.npz --steps 20                # a trial
    python -m run_bundle bundle cifar10.npz --epochs 60 --save at60.npz
    python -m run_bundle bundle cifar10.npz --state at60.npz          # the rest of the run
    python -m run_bundle bundle cifar10.npz --time_steps 30           # images per second alone
"""

from .bundle import Bundle
from .files import BundleError, Images, check, unpack
from .training import evaluate, images_per_second, train

__all__ = [
    "Bundle",
    "BundleError",
    "Images",
    "check",
    "evaluate",
    "images_per_second",
    "train",
    "unpack",
]
