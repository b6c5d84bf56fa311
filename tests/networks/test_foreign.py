"""Any Keras model as a peer."""

import random

import keras
import numpy as np
import pytest

from tests.networks.small_networks import assert_equal_outputs, between, noise, pixels
from tf_cutnmix.networks import adapt, stages
from tf_cutnmix.networks.blocks import BatchNormalization
from tf_cutnmix.networks.foreign import copy_layer, find_stages


def user_model() -> keras.Model:
    """One with a branch, a BatchNormalization that has seen data, dropout and a frozen layer."""
    random.seed(1)
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="first")(images)
    inside = keras.layers.Conv2D(6, 3, padding="same", name="inside")(x)
    x = keras.layers.Add(name="join")([x, inside])
    x = keras.layers.BatchNormalization(name="statistics")(x)
    x = keras.layers.Conv2D(5, 3, 2, padding="same", trainable=False, name="frozen")(x)
    x = keras.layers.Dropout(0.5)(x)
    model = keras.Model(images, x, name="mine")
    model.get_layer("statistics").moving_mean.assign(noise((6,)))
    return model


def test_an_adapted_model_is_flat_and_can_be_cut_at_its_stages():
    peer = adapt(
        user_model(), 10, stages={"stage1": "join", "stem": "first", "stage2": "statistics"}
    )
    assert not any(isinstance(layer, keras.Model) for layer in peer.layers)
    assert stages(peer) == ("stem", "stage1", "stage2")
    assert peer.name == "mine"
    assert adapt(user_model(), 10, name="other").name == "other"
    outputs = peer(pixels())
    for stage in stages(peer):
        found = between(peer, stage, "logits")(outputs[stage])
        np.testing.assert_allclose(found, outputs["logits"], rtol=1e-4, atol=1e-4)
    joined = keras.Model(peer.input, peer.get_layer("join").output)(pixels())
    np.testing.assert_array_equal(joined, outputs["stage1"])


def test_an_adapted_model_keeps_its_statistics_dropout_and_frozen_layers():
    peer = adapt(user_model(), 10)
    mean = peer.get_layer("statistics").moving_mean
    np.testing.assert_array_equal(mean, noise((6,)))
    before = peer(pixels())["features"]
    assert np.abs(peer(pixels(), training=True)["features"] - before).max() > 1
    assert np.abs(mean - noise((6,))).max() > 0.1
    assert len(peer.get_layer("frozen").trainable_variables) == 0
    assert len(peer.trainable_variables) == 8


def test_batch_normalization_of_maps_is_copied_as_ours_which_computes_the_same():
    images = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization(epsilon=0.1, momentum=0.7)(images)
    x = keras.layers.BatchNormalization(scale=False)(x)
    x = keras.layers.BatchNormalization(axis=1)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(images, keras.layers.BatchNormalization()(x))
    model.set_weights([weight + np.abs(noise(weight.shape)) for weight in model.get_weights()])
    peer = adapt(model, 10)
    kinds = [type(n) for n in peer.layers if isinstance(n, keras.layers.BatchNormalization)]
    assert kinds == [BatchNormalization, *[keras.layers.BatchNormalization] * 3]
    for training in (True, False):
        expected = model(pixels(), training=training)
        found = peer(pixels(), training=training)["features"]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    for found, expected in zip(peer.get_weights(), model.get_weights(), strict=False):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_normalization_keeps_the_statistics_of_its_adapt_in_every_copy():
    seen = pixels((50, 8, 8, 3), seed=1).astype("float32")
    statistics = keras.layers.Normalization()
    statistics.adapt(seen)
    peer = adapt(keras.Sequential([keras.Input((8, 8, 3)), statistics]), 10)
    copy = keras.models.clone_model(peer, clone_function=copy_layer)
    copy.set_weights(peer.get_weights())
    expected = (pixels().mean((1, 2)) - seen.mean((0, 1, 2))) / seen.std((0, 1, 2))
    for network in (peer, copy):
        np.testing.assert_allclose(network(pixels())["features"], expected, rtol=1e-4, atol=1e-4)


def test_peers_of_one_model_share_nothing_with_each_other_or_with_it():
    model = user_model()
    weights = model.get_weights()
    peers = [adapt(model, 10), adapt(model, 10)]
    for variable in peers[0].variables:
        variable.assign(variable + 1)
    for kept, weight in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(kept, weight)
    for kept, weight in zip(peers[1].get_weights(), weights, strict=False):
        np.testing.assert_array_equal(kept, weight)


@pytest.mark.parametrize(
    ("preprocess", "reference"),
    [
        (
            keras.applications.vgg16.preprocess_input,
            lambda x: x[..., ::-1] - np.array([103.939, 116.779, 123.68]),
        ),
        (keras.layers.Rescaling(1 / 255), lambda x: x / 255),
    ],
)
def test_pixels_are_preprocessed_before_the_model_whose_map_is_pooled(
    preprocess, reference, tmp_path
):
    model = user_model()
    peer = adapt(model, 10, stages={"stem": "first"}, preprocess=preprocess)
    expected = np.mean(model(reference(pixels().astype("float64"))), axis=(1, 2))
    np.testing.assert_allclose(peer(pixels())["features"], expected, rtol=1e-3, atol=1e-3)
    peer.save(tmp_path / "peer.keras")
    assert_equal_outputs(keras.models.load_model(tmp_path / "peer.keras"), peer)


def test_a_sequential_model_becomes_a_peer():
    layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="only")]
    model = keras.Sequential([*layers, keras.layers.Flatten()])
    peer = adapt(model, 10, stages={"stage1": "only"})
    outputs = peer(pixels())
    np.testing.assert_array_equal(outputs["features"], model(pixels().astype("float32")))
    assert outputs["stage1"].shape == (4, 6, 6, 4)


def test_tokens_are_pooled():
    images = keras.Input((8, 8, 3))
    tokens = keras.layers.Reshape((16, 12))(images)
    found = adapt(keras.Model(images, tokens), 10)(pixels())["features"]
    expected = pixels().astype("float64").reshape(-1, 16, 12).mean(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


# Finding stages


def with_a_shortcut_around(size: int) -> keras.Model:
    """Maps of 8, 4 and 2 pixels; those of `size` have a shortcut around them into the next."""
    images = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(images)
    for end in (8, 4, 2):
        inside = keras.layers.Conv2D(3, 3, padding="same", name=f"inside{end}")(x)
        added = keras.layers.Add(name=f"end{end}")([x, inside])
        if end == 2:
            return keras.Model(images, added)
        x, before = keras.layers.MaxPooling2D(name=f"down{end}")(added), x
        if end == size:
            x = keras.layers.Add(name=f"joined{end}")([keras.layers.MaxPooling2D()(before), x])
    raise AssertionError


def test_stages_end_before_the_maps_shrink_where_no_path_leads_around():
    assert find_stages(with_a_shortcut_around(0)) == {
        "stage1": "end8",
        "stage2": "end4",
        "stage3": "end2",
    }
    # Around the 8 pixels' end there is a path: of that size nothing is alone on the way.
    assert find_stages(with_a_shortcut_around(8)) == {"stage1": "end4", "stage2": "end2"}


def test_padding_before_a_stage_is_not_the_end_of_the_one_before():
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", name="first")(images)
    x = keras.layers.ZeroPadding2D(name="padding")(x)
    x = keras.layers.Conv2D(4, 3, strides=2, name="second")(x)
    assert find_stages(keras.Model(images, x)) == {"stage1": "first", "stage2": "second"}


def test_a_model_of_any_size_or_that_uses_a_layer_twice_has_no_stages():
    images, layer = keras.Input((8, 8, 3)), keras.layers.Conv2D(3, 3, padding="same")
    assert find_stages(keras.Model(images, layer(layer(images)))) == {}
    images = keras.Input((None, None, 3))
    assert find_stages(keras.Model(images, layer(images))) == {}


class Subclassed(keras.Model):
    def call(self, images):
        return images


IMAGES, OTHERS = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))


@pytest.mark.parametrize(
    "model",
    [
        Subclassed(),
        keras.Sequential([keras.layers.Flatten()]),
        keras.Model([IMAGES, OTHERS], IMAGES + OTHERS),
        keras.Model(IMAGES, keras.layers.Reshape((2, 2, 6, 8))(IMAGES)),
    ],
    ids=["subclassed", "unbuilt", "two inputs", "volumes"],
)
def test_a_model_that_is_not_from_images_to_features_is_refused(model):
    with pytest.raises(ValueError, match=r"one input \[B, H, W, C\] to one output"):
        adapt(model, 10)


@pytest.mark.parametrize(
    ("stage_ends", "message"),
    [
        ({"stage2": "first"}, "without a gap.* Received: stage2"),
        ({"stage1": "first", "block": "join"}, "without a gap.* Received: stage1, block"),
        ({"stage1": "second"}, "No such layer: second. Existing layers are: .*'first', 'inside'"),
        ({"stage1": "inside"}, "stage1 cannot end at the layer 'inside'"),
        ({"stage1": "join", "stage2": "first"}, "stage1 cannot end at the layer 'join'"),
        ({"stem": "first", "stage1": "first"}, "stem cannot end at the layer 'first'"),
    ],
)
def test_a_stage_that_is_no_cut_is_refused(stage_ends, message):
    with pytest.raises(ValueError, match=message):
        adapt(user_model(), 10, stages=stage_ends)
