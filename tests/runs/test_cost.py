"""Costs: arithmetic against counts by hand, parameters, memory."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_cutnmix import CutMix, CutNMix, Method, OnlineDistiller, build_network, share_stages
from tf_cutnmix.runs import cost

EXPORT = str(pathlib.Path(__file__).parents[2] / "savedmodels" / "digits_resnet8" / "1")
# Multiplications and additions of ResNet-8 on 8x8 images, layer by layer: 3x3 convolutions at
# 8x8, then 4x4, then 2x2 pixels, and the classifier of 10 classes.
STEM_AND_FIRST_STAGE = 2 * 9 * 64 * (3 * 16 + 2 * 16 * 16)
SECOND_STAGE = 2 * 9 * 16 * (16 * 32 + 32 * 32)
THIRD_STAGE = 2 * 9 * 4 * (32 * 64 + 64 * 64) + 2 * 64 * 10
RESNET8 = STEM_AND_FIRST_STAGE + SECOND_STAGE + THIRD_STAGE


def resnets(count: int) -> list[keras.Model]:
    return [build_network("resnet8", (8, 8, 3), 10) for _ in range(count)]


def test_a_forward_pass_is_counted_as_by_hand():
    network = resnets(1)[0]
    assert cost.flops(lambda x: network(x), [tf.TensorSpec([1, 8, 8, 3])]) == RESNET8


@pytest.mark.parametrize(
    ("method", "passes"), [("independent", 3), ("dml", 3), ("cutnmix", 4), ("dlb", 6)]
)
def test_a_step_is_three_passes_one_more_for_averages_twice_for_two_batches(method, passes):
    model = OnlineDistiller(resnets(2), CutMix(), Method(method, batch_size=4))
    assert cost.training_flops(model) == 2 * passes * RESNET8


def test_a_frozen_teacher_has_a_forward_pass_for_each_peer():
    # The example export is the mean of two ResNet-8 on 8x8 images.
    model = OnlineDistiller(resnets(3), CutMix(), Method("kd", teacher=EXPORT))
    assert cost.training_flops(model) == 3 * 3 * RESNET8 + 3 * 2 * RESNET8


def test_what_is_shared_counts_once_where_peers_see_one_view():
    peers = share_stages(resnets(3), "stage2")
    own = 3 * THIRD_STAGE
    one_view = OnlineDistiller(peers, CutMix(), "independent")
    assert cost.training_flops(one_view) == 3 * (STEM_AND_FIRST_STAGE + SECOND_STAGE + own)
    for many_views in (
        OnlineDistiller(peers, CutNMix(3), "independent"),
        OnlineDistiller(peers, CutMix(), "independent", own_views=True),
    ):
        assert cost.training_flops(many_views) == 3 * 3 * RESNET8


def test_parameters_are_those_of_peers_and_parts_each_once():
    size = sum(np.prod(v.shape) for v in resnets(1)[0].trainable_variables)
    adapters = 2 * 64 * 64
    assert cost.trained_parameters(OnlineDistiller(resnets(2))) == 2 * size + adapters
    shared = share_stages(resnets(2), "stage3")
    head = 64 * 10 + 10
    assert cost.trained_parameters(OnlineDistiller(shared, method="independent")) == size + head


def test_peak_memory_is_in_bytes_and_does_not_fall():
    before = cost.peak_memory()
    held = np.ones(2**28, np.uint8)
    after = cost.peak_memory()
    assert 2**26 < before < 2**40
    assert after >= max(before, held.nbytes)
