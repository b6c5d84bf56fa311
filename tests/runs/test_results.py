"""What a result says beside its figures."""

import pytest

from tf_cutnmix.runs import results


def test_kernels_of_other_last_bits_are_told_with_the_machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    plain = results.versions()["machine"]
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert results.versions()["machine"] == f"{plain}, TF_ENABLE_ONEDNN_OPTS=0"
