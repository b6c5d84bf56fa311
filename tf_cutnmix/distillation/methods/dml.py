"""Deep mutual learning (Zhang et al. 2018)."""

from tf_cutnmix.distillation import losses
from tf_cutnmix.distillation.method import Method, Peers, Term, recipe


@recipe(temperature=1.0, min_peers=2)
def dml(method: Method, peers: Peers) -> list[Term]:
    """Deep mutual learning: `sum_i CE_i + mean_{j != i} KD(z_j -> i)`.

    Zhang et al. 2018. All peers learn in one step, as in the published
    comparisons, not in turn. The paper has no temperature: T = 1.
    """
    return [Term("mutual", lambda forward: losses.mutual(forward.logits, method.temperature))]
