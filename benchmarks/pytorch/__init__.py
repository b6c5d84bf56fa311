"""Our train step as a good PyTorch program: the peer in the benchmarks. Needs torch and numpy.

Read network, views, execution, plain, distiller, batches, in this order. Nothing here imports
TensorFlow or tf_cutnmix: the package runs where there is neither.

The work is that of `tf_cutnmix.OnlineDistiller` with `resnet<6n+2>` peers: crops and mirror
images, Cut^nMix, n peers, n averaged peers, feature adapters, the terms of the loss, SGD with
coupled weight decay, moving averages. What differs, to PyTorch's advantage or without effect:
no check for values that are not finite, no means of the terms over the epoch, no measure of
the boxes' overlap; `running_var` is the unbiased variance, where Keras keeps the biased one.

Images are `[B, C, H, W]` in channels_last memory, which cuDNN and oneDNN are fastest with.
Draws come from PyTorch's global generators, see `torch.manual_seed`; a generator passed by hand
could be neither compiled nor captured in a CUDA graph.
"""

from benchmarks.pytorch.batches import fast_batches, usual_batches
from benchmarks.pytorch.distiller import METHODS, Distiller
from benchmarks.pytorch.execution import COMPILE_MODES, PRECISIONS
from benchmarks.pytorch.network import Convolution, ResNet
from benchmarks.pytorch.plain import PlainStep
from benchmarks.pytorch.views import crop_and_flip, cutnmix

__all__ = [
    "COMPILE_MODES",
    "METHODS",
    "PRECISIONS",
    "Convolution",
    "Distiller",
    "PlainStep",
    "ResNet",
    "crop_and_flip",
    "cutnmix",
    "fast_batches",
    "usual_batches",
]
