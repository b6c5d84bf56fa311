"""Deep mutual learning (Zhang et al. 2018)."""

from collections.abc import Sequence

import keras

from tf_cutnmix.distillation.method import Method, Term, recipe
from tf_cutnmix.distillation.terms import CROSS_ENTROPY, mutual


@recipe(temperature=1.0, min_peers=2)
def dml(method: Method, peers: Sequence[keras.Model]) -> list[Term]:
    """Deep mutual learning: `sum_i CE_i + mean_{j != i} KD(z_j -> i)`.

    Zhang et al. 2018. All peers learn in one step, as in the published
    comparisons, not in turn. The paper has no temperature: T = 1.
    """
    return [CROSS_ENTROPY, Term("mutual", lambda forward: mutual(forward, method.temperature))]
