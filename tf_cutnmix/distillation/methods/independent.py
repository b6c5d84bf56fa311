"""No distillation: what every method is compared with."""

from tf_cutnmix.distillation.method import Method, Peers, Term, recipe


@recipe(takes_unlabelled=False)
def independent(method: Method, peers: Peers) -> list[Term]:
    """Peers trained side by side: `sum_i CE(y, z_i)`."""
    return []
