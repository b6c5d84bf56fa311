"""The state of a run in one file: bits, damage, strangers and full disks."""

import os
import pathlib
import random

import hypothesis.extra.numpy as arrays
import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.distillation.small_models import small_network
from tests.processes import largest_file
from tf_cutnmix import CutNMix, OnlineDistiller
from tf_cutnmix.errors import RunError
from tf_cutnmix.runs import checkpoints

FACTS = {"epoch": 7, "best": 0.8125, "class_names": ["cat", "dog, grey", "été"], "note": "a\nb"}


def bits(variables) -> list[tuple]:
    values = [np.asarray(variable) for variable in variables]
    return [(value.dtype, value.shape, value.tobytes()) for value in values]


def poison(variables: list[keras.Variable]) -> None:
    for variable in variables:
        variable.assign(np.full(variable.shape, 99, variable.dtype))


def checkpoint_of(*values, **facts) -> checkpoints.Checkpoint:
    return checkpoints.Checkpoint([np.asarray(value) for value in values], [], [], facts)


def variables_of(*values) -> list[keras.Variable]:
    return [keras.Variable(np.asarray(v), dtype=np.asarray(v).dtype.name) for v in values]


@pytest.fixture
def saved(tmp_path) -> pathlib.Path:
    path = tmp_path / "last.npz"
    checkpoints.save(path, checkpoint_of(np.float32([1, 2, 3]), np.int64(5), epoch=1))
    return path


def test_a_model_and_its_optimizer_come_back_to_the_bit(tmp_path):
    """Every kind of variable holds something: weights, slots, counters, seeds."""
    random.seed(0)
    model = OnlineDistiller([small_network(w, dropout=0.5) for w in (3, 4)], CutNMix(2, seed=0))
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), run_eagerly=True)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype("uint8")
    model.fit(images, np.arange(4), batch_size=2, epochs=1, verbose=0)
    state = [*model.variables, *model.optimizer.variables]
    before, copies = bits(state), checkpoints.copies(state)
    poison(state)
    assert not set(before) & set(bits(state))
    checkpoints.save(tmp_path / "last.npz", checkpoint_of(*copies))
    checkpoints.restore(checkpoints.read(tmp_path / "last.npz").values, state)
    assert bits(state) == before


def test_facts_and_each_kind_of_values_come_back(tmp_path):
    state, means, best = ([np.float32(k), np.int64([k])] for k in range(3))
    checkpoint = checkpoints.Checkpoint(state, means, best, FACTS)
    checkpoints.save(tmp_path / "new" / "last.npz", checkpoint)
    read = checkpoints.read(tmp_path / "new" / "last.npz")
    assert [bits(values) for values in read[:3]] == [bits(values) for values in checkpoint[:3]]
    assert read.facts == FACTS


def test_the_newest_whole_checkpoint_is_found_and_what_was_wrong_with_later_ones(tmp_path):
    assert checkpoints.newest(tmp_path) == (None, [])
    for epoch, batch in ((9, 0), (10, 0), (9, 12), (10, 7)):
        path = checkpoints.place(tmp_path, epoch, batch)
        checkpoints.save(path, checkpoint_of(epoch=epoch, batch=batch))
    path.write_bytes(b"PK")
    checkpoint, wrong = checkpoints.newest(tmp_path)
    assert checkpoint.facts == {"epoch": 10, "batch": 0}
    assert len(wrong) == 1
    assert f"cannot read the checkpoint {path}" in wrong[0]


@given(
    values=st.lists(
        st.sampled_from(["float32", "float64", "float16", "int64", "int32", "uint32", "bool"])
        .map(np.dtype)
        .flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0))),
        max_size=30,
    )
)
def test_any_values_come_back_to_the_bit_in_their_order(values, tmp_path_factory):
    path = tmp_path_factory.mktemp("value") / "last.npz"
    checkpoints.save(path, checkpoint_of(*values))
    assert bits(checkpoints.read(path).values) == bits(values)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", bytes(1000), None])
def test_a_file_that_is_no_checkpoint_is_refused_by_name(content, tmp_path):
    path = tmp_path / "last.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=r"cannot read the checkpoint .*last\.npz"):
        checkpoints.read(path)


def test_an_array_file_of_another_making_is_no_checkpoint(tmp_path):
    np.savez(tmp_path / "last.npz", a=np.zeros(3))
    with pytest.raises(RunError, match=r"last\.npz is no checkpoint, or one of an earlier version"):
        checkpoints.read(tmp_path / "last.npz")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.999])
def test_a_truncated_file_is_refused(part, saved):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(RunError, match="cannot read the checkpoint"):
        checkpoints.read(saved)


def test_no_flipped_bit_goes_unnoticed(saved):
    """A single-bit error is refused or touches nothing: every bit of the directory, some others."""
    whole, before = saved.read_bytes(), checkpoints.read(saved)
    expected = bits(before.values), before.facts
    unnoticed = []
    directory = 8 * whole.index(b"PK\x01\x02")
    for position in (*range(0, directory, 29), *range(directory, 8 * len(whole), 3)):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        saved.write_bytes(damaged)
        try:
            found = checkpoints.read(saved)
        except RunError:
            continue
        if (bits(found.values), found.facts) != expected:
            unnoticed.append(position)
    assert not unnoticed


@pytest.mark.parametrize(
    ("others", "detail"),
    [
        ([np.float32([1, 2, 3])], "it holds 2 variables where 1 are needed"),
        ([np.float32([1, 2, 3]), np.int64(5), np.int64(6)], "2 variables where 3 are needed"),
        ([np.float32([[1, 2, 3]]), np.int64(5)], r"\(3,\).*\(1, 3\)"),
        ([np.float32([1, 2, 3]), np.int32(5)], "int64.*int32"),
    ],
)
def test_the_checkpoint_of_another_model_is_refused_and_changes_nothing(others, detail, saved):
    state = variables_of(*others)
    poison(state)
    before = bits(state)
    with pytest.raises(RunError, match=f"another model.*{detail}"):
        checkpoints.restore(checkpoints.read(saved).values, state)
    assert bits(state) == before


def test_a_failing_write_leaves_the_former_file_and_nothing_beside_it(saved):
    """A limit on the size of files stands for a full disk: the kernel stops the write midway."""
    before = saved.read_bytes()
    words = f"cannot write {saved}: File too large"
    with largest_file(50_000), pytest.raises(RunError, match=words):
        checkpoints.save(saved, checkpoint_of(np.ones(100_000), epoch=2))
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["last.npz"]
