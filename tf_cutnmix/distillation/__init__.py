"""What the peers learn from: the labels, each other, and their own moving average.

Read `losses`, `peers` (what they must be), `forward` (what a step computed), `method` (a named list
of terms), `terms` (those that several methods share), `methods` (one file a paper), `teacher` (the
moving average), `soup` (the mean of the peers' weights), `unpacking` (what a batch may be), `views`
(what each peer sees), `replicas` (the devices that share a batch), `guard` (a step that must not be
taken), `inputs` (what is wrong with a batch), `callbacks`, `graphs` (what a traced step becomes),
`trainer` (how Keras compiles and fits), `predictor` (what the networks say), `distiller` (the train
step, on one page).
"""

from tf_cutnmix.distillation.distiller import OnlineDistiller
from tf_cutnmix.distillation.method import Method
from tf_cutnmix.distillation.methods import METHODS
from tf_cutnmix.distillation.replicas import synchronise

__all__ = ["METHODS", "Method", "OnlineDistiller", "synchronise"]
