"""Peers that share stages: whose weights, whose outputs, whose gradients, computed how often."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.networks.small_networks import SCALES
from tests.tiny_peers import tiny_peer
from tf_cutnmix import build_network
from tf_cutnmix.errors import InputError
from tf_cutnmix.networks import stages
from tf_cutnmix.networks.sharing import (
    MeanGradient,
    Together,
    join,
    share_stages,
    shared_stage,
    split,
)


def pixels(seed: int = 0, count: int = 4, size: int = 8) -> tf.Tensor:
    shape = (count, size, size, 3)
    return tf.constant(np.random.default_rng(seed).integers(0, 256, shape), tf.float32)


def tiny_peers(count: int = 3) -> list[keras.Model]:
    return [tiny_peer(size) for size in (6, 3, 8)[:count]]


def ids(peer: keras.Model) -> set[int]:
    return {id(variable) for variable in peer.variables}


def assert_equal(found: dict, expected: dict, **tolerance: float) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(
            found[name], value, **(tolerance or {"rtol": 1e-5, "atol": 1e-6})
        )


def after(peer: keras.Model, stage: str) -> keras.Model:
    """A peer from the end of a stage on."""
    names = list(peer.output)
    later = {name: peer.output[name] for name in names[names.index(stage) + 1 :]}
    return keras.Model(peer.output[stage], later)


@pytest.mark.parametrize(("stage", "training"), [("stem", True), ("stage1", False)])
def test_a_peers_outputs_are_the_first_ones_trunk_and_its_own_tail(
    stage: str, training: bool
) -> None:
    peers = tiny_peers()
    trunk = keras.Model(peers[0].input, peers[0].output[stage])
    tails = [after(peer, stage) for peer in peers]
    end = trunk(pixels(), training=training)
    expected = [tail(end, training=training) for tail in tails]
    shared = share_stages(peers, stage)
    for peer, before, tail in zip(shared, peers, expected, strict=True):
        assert (peer.name, stages(peer)) == (before.name, stages(before))
        found = peer(pixels(), training=training)
        np.testing.assert_allclose(found[stage], end, rtol=1e-6, atol=1e-6)
        assert_equal({name: found[name] for name in tail}, tail)
    assert not np.allclose(expected[0]["logits"], expected[1]["logits"], atol=1e-3)


def test_weights_before_the_cut_are_one_object_and_all_others_are_not() -> None:
    peers = tiny_peers()
    trunk = ids(keras.Model(peers[0].input, peers[0].output["stage1"]))
    tails = [after(peer, "stage1").count_params() for peer in peers]
    shared = share_stages(peers, "stage1")
    for k, peer in enumerate(shared):
        assert trunk < ids(peer)
        for other in shared[:k]:
            assert ids(peer) & ids(other) == trunk
        assert (
            peer.count_params()
            == sum(int(np.prod(v.shape)) for v in peer.variables if id(v) in trunk) + tails[k]
        )


@pytest.mark.parametrize("mean_gradient", [False, True])
def test_the_trunk_gets_the_sum_or_the_mean_of_the_peers_gradients(mean_gradient: bool) -> None:
    peers = tiny_peers()
    trunk = keras.Model(peers[0].input, peers[0].output["stage1"])
    tails = [after(peer, "stage1") for peer in peers]
    with tf.GradientTape() as tape:
        end = trunk(pixels())
        loss = tf.add_n([tf.reduce_sum(tf.sin(tail(end)["logits"])) for tail in tails])
    last = tails[1].trainable_variables[0]
    *whole, of_last = tape.gradient(loss, [*trunk.trainable_variables, last])
    assert all(np.any(gradient) for gradient in whole[-2:])

    shared = share_stages(peers, "stage1", mean_gradient=mean_gradient)
    own = next(v for v in shared[1].trainable_variables if id(v) not in ids(shared[0]))
    with tf.GradientTape() as tape:
        outputs = Together(shared)([pixels()] * 3, training=False)
        loss = tf.add_n([tf.reduce_sum(tf.sin(output["logits"])) for output in outputs])
    *found, of_own = tape.gradient(loss, [*trunk.trainable_variables, own])
    for gradient, expected in zip(found, whole, strict=True):
        divided = expected / 3 if mean_gradient else expected
        np.testing.assert_allclose(gradient, divided, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(of_own, of_last, rtol=1e-4, atol=1e-5)


def test_xla_compiles_the_division_of_a_gradient() -> None:
    @tf.function(jit_compile=True)
    def gradient(x: tf.Tensor) -> tf.Tensor:
        return tf.gradients(MeanGradient(4)(x) ** 3, x)[0]

    x = tf.constant([1.0, -2.0, 0.5])
    np.testing.assert_allclose(gradient(x), 3 * np.square(x) / 4, rtol=1e-6)


def test_the_shared_stage_is_the_last_one_in_common() -> None:
    for stage in ("stem", "stage2"):
        assert shared_stage(share_stages([tiny_peer(), tiny_peer()], stage)) == stage
    assert shared_stage(tiny_peers()) is None
    assert shared_stage([tiny_peer()]) is None
    assert shared_stage(share_stages([tiny_peer()], "stage1")) is None


@pytest.mark.parametrize("mean_gradient", [False, True])
def test_joined_peers_that_were_saved_come_back_with_what_they_share(
    mean_gradient: bool, tmp_path: pathlib.Path
) -> None:
    peers = share_stages(tiny_peers(), "stage1", mean_gradient=mean_gradient)
    join(peers).save(tmp_path / "peers.keras")
    model = keras.models.load_model(tmp_path / "peers.keras")
    kinds = (MeanGradient,)
    assert [x.number for x in model.layers if isinstance(x, kinds)] == [3] * mean_gradient
    copies = split(model)
    assert len(copies) == len(peers)
    assert shared_stage(copies) == "stage1"
    common = ids(peers[0]) & ids(peers[1])
    assert len(ids(copies[0]) & ids(copies[1])) == len(common)
    for copy, peer in zip(copies, peers, strict=True):
        assert stages(copy) == stages(peer)
        assert_equal(copy(pixels()), peer(pixels()), rtol=1e-5, atol=1e-6)


def test_one_peer_and_peers_apart_are_not_joined() -> None:
    peer = tiny_peer()
    assert split(peer) == [peer]
    assert join([peer]) is None
    assert join(tiny_peers()) is None


def test_peers_that_share_weights_but_no_input_are_refused() -> None:
    body = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])

    def peer() -> keras.Model:
        images = keras.Input((8, 8, 3))
        features = body(images)
        return keras.Model(images, {"features": features, "logits": features})

    with pytest.raises(ValueError, match=r"share weights but not their input.*share_stages"):
        join([peer(), peer()])


def convolutions(run: Together, views: list[int]) -> int:
    """How many convolutions the graph has for these views, by their numbers."""

    @tf.function
    def call(images: tf.Tensor) -> list:
        different = {number: images + float(number) for number in set(views)}
        return [o["logits"] for o in run([different[number] for number in views], training=True)]

    graph = call.get_concrete_function(tf.TensorSpec((4, 8, 8, 3), tf.float32)).graph
    nested = [node.op for f in graph.as_graph_def().library.function for node in f.node_def]
    return [*(op.type for op in graph.get_operations()), *nested].count("Conv2D")


def test_what_peers_share_is_computed_once_where_they_see_one_view() -> None:
    run = Together(share_stages(tiny_peers(), "stage1"))
    assert convolutions(run, [0, 0, 0]) == 2 + 3 * 1
    assert convolutions(run, [0, 1, 2]) == 3 * (2 + 1)
    apart = Together(tiny_peers())
    assert convolutions(apart, [0, 0, 0]) == 3 * (2 + 1)


@pytest.mark.parametrize("one_view", [True, False])
def test_networks_run_together_say_what_each_says_alone(one_view: bool) -> None:
    for peers in (tiny_peers(), share_stages(tiny_peers(), "stage1")):
        views = [pixels()] * 3 if one_view else [pixels(seed) for seed in range(3)]
        found = Together(peers)(views, training=False)
        for output, peer, view in zip(found, peers, views, strict=True):
            assert_equal(output, peer(view, training=False), rtol=1e-5, atol=1e-6)


def test_what_cannot_be_shared_is_refused() -> None:
    images = keras.Input((8, 8, 3))
    features = keras.layers.GlobalAveragePooling2D()(images)
    plain = keras.Model(images, {"features": features, "logits": features})
    for second, stage, words in (
        (tiny_peer(), "stage9", "--share=stage9: peer 1, .* has the stages stem, stage1, stage2"),
        (plain, "stem", r"--share=stem: peer 2, .* names no stages"),
        (tiny_peer(stem=7), "stem", r"unlike shapes \[\(4, 4, 4\), \(4, 4, 7\)\]"),
    ):
        with pytest.raises(InputError, match=words):
            share_stages([tiny_peer(), second], stage)
    with pytest.raises(TypeError, match=r"peers must be one or more models\. Received: 'resnet8'"):
        share_stages("resnet8", "stem")


@pytest.mark.slow
@pytest.mark.parametrize("name", SCALES)
def test_networks_of_every_family_can_be_shared_at_each_of_their_stages(name: str) -> None:
    size = 32 if name.startswith("vgg") else 8
    peers = [build_network(name, (size, size, 3), 10) for _ in range(2)]
    images = pixels(count=1, size=size)
    first = peers[0](images)
    for stage in stages(peers[0]):
        expected = after(peers[1], stage)(first[stage])
        shared = share_stages(peers, stage)
        assert shared_stage(shared) == stage
        found = Together(shared)([images, images], training=False)
        assert_equal(found[0], first, rtol=1e-4, atol=1e-5)
        assert_equal({n: found[1][n] for n in expected}, expected, rtol=1e-4, atol=1e-5)


def test_unlike_architectures_share_a_stage_whose_map_has_one_shape() -> None:
    peers = [build_network(name, (8, 8, 3), 10) for name in ("resnet8", "resnet14")]
    expected = after(peers[1], "stage1")(peers[0](pixels())["stage1"])["logits"]
    shared = share_stages(peers, "stage1")
    assert shared_stage(shared) == "stage1"
    np.testing.assert_allclose(shared[1](pixels())["logits"], expected, rtol=1e-4, atol=1e-5)
