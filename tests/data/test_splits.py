"""Orders whose every beginning is in proportion."""

import numpy as np
import pytest

from tf_cutnmix.data.splits import in_proportion


@pytest.mark.parametrize(
    "counts",
    [[16, 16, 8], [1000, *[1] * 100], [1, 2, 3, 4, 5, 100], [7], [0, 3, 0, 5], range(1, 40)],
)
def test_every_beginning_has_of_each_class_its_share_rounded_up_or_down(counts) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    order = in_proportion(labels.tolist())
    assert sorted(order) == list(range(len(labels)))
    had = np.cumsum(np.eye(len(counts))[labels[order]], axis=0)
    shares = np.arange(1, 1 + len(labels))[:, None] * np.array(counts) / len(labels)
    assert np.abs(had - shares).max() < 1
    own = [p for p in order if labels[p] == np.argmax(counts)]
    assert own != sorted(own) or len(own) < 3
