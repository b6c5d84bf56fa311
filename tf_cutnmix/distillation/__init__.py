"""What the peers learn from: the labels, each other, and their own moving average.

Read `losses`, `ramp` (the weight of ramped terms), `peers` (what they must be), `method` (a named
list of terms, of what a step computed), `methods` (one file a paper), `teacher` (the moving
average), `views` (from a batch to what each peer sees), `replicas` (the devices that share a
batch), `guard` (a step that must not be taken), `distiller` (the train step, on one page).
"""

from tf_cutnmix.distillation.distiller import OnlineDistiller
from tf_cutnmix.distillation.method import Method
from tf_cutnmix.distillation.methods import METHODS
from tf_cutnmix.distillation.replicas import synchronise

__all__ = ["METHODS", "Method", "OnlineDistiller", "synchronise"]
