"""Parts stand beside the peers."""

import pytest

from tests.distillation.methods.forwards import BATCH, EXPORT
from tests.tiny_peers import tiny_peer
from tf_cutnmix import Method
from tf_cutnmix.distillation.method import METHODS, parts_of
from tf_cutnmix.networks.sharing import share_stages


@pytest.mark.parametrize("name", METHODS)
def test_parts_hold_no_variable_of_a_peer(name: str) -> None:
    peers = share_stages([tiny_peer() for _ in range(3)], "stage1")
    terms = Method(name, batch_size=BATCH, teacher=str(EXPORT)).terms(peers)
    own = {id(variable) for peer in peers for variable in peer.variables}
    for part in parts_of(terms):
        assert own.isdisjoint(id(variable) for variable in part.variables)
