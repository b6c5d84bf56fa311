"""Steps that several devices share: the same as on one device."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from tests.distillation import replicated
from tests.processes import python
from tf_cutnmix import OnlineDistiller
from tf_cutnmix.distillation.replicas import Replicas

ROOT = pathlib.Path(__file__).parents[2]
# Of a method and how many images a batch has: 13 are 6 and 7.
PAIRS = [f"{name}:{batch}" for name in replicated.METHODS for batch in (12, 13)]
QUICK = ["cutnmix:12", "pcl:13"]


def printed(*arguments: str) -> list[dict]:
    """The lines of a process that has two devices."""
    script = pathlib.Path(replicated.__file__)
    process = python(str(script), *arguments, cwd=ROOT)
    assert process.returncode == 0, process.stderr[-2000:]
    return [json.loads(line) for line in process.stdout.splitlines()]


@pytest.mark.long
@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param(QUICK, id="two"),
        pytest.param(
            [pair for pair in PAIRS if pair not in QUICK], id="the others", marks=pytest.mark.slow
        ),
    ],
)
def test_two_devices_train_as_one(pairs):
    found = printed("compare", *pairs)
    assert [line["of"] for line in found] == pairs
    for line in found:
        assert max(line["losses"], line["variables"]) < 1e-5, line


@pytest.mark.long
def test_what_only_one_device_sees_is_for_all():
    (found,) = printed("apart")
    variances, expected = found["variances"], found["expected"]
    assert variances["of_parts"] == pytest.approx(expected["of_parts"], rel=1e-4)
    assert variances["of_all"] == pytest.approx(expected["of_all"], rel=1e-4)
    assert variances["of_all_by_ours"] == pytest.approx(expected["of_all"], rel=1e-4)
    assert expected["of_all"] > 1.05 * expected["of_parts"]
    assert found["failed_step"] == 1
    assert found["changed"] == []


@pytest.mark.parametrize("strategy", ["mirrored", tf.distribute.OneDeviceStrategy("CPU:0")])
def test_other_strategies_are_refused(strategy):
    with pytest.raises(ValueError, match="a MultiWorkerMirroredStrategy or None"):
        Replicas(strategy)


def test_a_model_in_a_scope_is_told_where_to_go():
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        peers = [replicated.tiny_networks.tiny()]
        with pytest.raises(ValueError, match=r"outside of strategy.scope\(\) and pass strategy="):
            OnlineDistiller(peers, method="independent")


@pytest.mark.long
def test_a_strategy_of_one_device_changes_nothing():
    weights = []
    for strategy in (None, tf.distribute.MirroredStrategy(["CPU:0"])):
        model, _ = replicated.trained("dml", strategy, steps=2)
        weights.append([np.asarray(v) for v in model.variables])
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
