"""No distillation: what every method is compared with."""

from collections.abc import Sequence

import keras

from tf_cutnmix.distillation.method import Method, Term, recipe
from tf_cutnmix.distillation.terms import CROSS_ENTROPY


@recipe()
def independent(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
    """Peers trained side by side: `sum_i CE(y, z_i)`."""
    return [CROSS_ENTROPY]
