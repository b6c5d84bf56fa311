"""Views of each peer's own are mixed alike."""

import numpy as np
import pytest
import tensorflow as tf

from tests import harness
from tests.mixing.batches import LAYERS, NUM_CLASSES, make_labels, to_numpy
from tf_cutnmix import CutNMix, cutnmix, mix_dataset
from tf_cutnmix.mixing.layers import FMix


def own_views(num_peers=3):
    """A batch of other random pixels for each peer."""
    shape = [6, num_peers, 5, 8, 3]
    views = np.random.default_rng(3).integers(256, size=shape).astype("uint8")
    return {"images": views, "labels": make_labels(6, "integer")}


def of_three_peers(layer, **settings):
    settings |= {"num_peers": 3} if layer is CutNMix else {}
    return layer(num_classes=NUM_CLASSES, seed=0, **settings)


@pytest.mark.parametrize("layer", LAYERS)
def test_each_view_is_mixed_as_images_are(layer):
    layer, batch = of_three_peers(layer), own_views()
    mixed = to_numpy(layer(batch, step=4))
    assert mixed["images"].shape == batch["images"].shape
    assert mixed["images"].dtype == "uint8"
    for k in range(3):
        alone = to_numpy(layer(batch | {"images": batch["images"][:, k]}, step=4))
        expected = alone["images"][:, k] if alone["images"].ndim == 5 else alone["images"]
        np.testing.assert_array_equal(mixed["images"][:, k], expected)
        np.testing.assert_array_equal(mixed["labels"], alone["labels"])
    assert (mixed["images"] != batch["images"]).any()


@pytest.mark.parametrize("layer", LAYERS)
def test_outside_training_views_stay_as_they_are(layer):
    batch = own_views()
    unmixed = of_three_peers(layer)(batch, training=False)
    np.testing.assert_array_equal(unmixed["images"], batch["images"])


@pytest.mark.long
@pytest.mark.parametrize("layer", [CutNMix, pytest.param(FMix, marks=pytest.mark.slow)])
def test_views_pass_the_harness(layer, tmp_path):
    layer, batch = of_three_peers(layer), own_views()
    harness.check_layer(layer, batch, tmp_path, rounded=["labels"])


def test_views_pass_through_the_function_and_a_dataset():
    batch, layer = own_views(), of_three_peers(CutNMix)
    expected = layer(batch, step=0)
    settings = {"num_peers": 3, "num_classes": NUM_CLASSES, "seed": 0}
    images, labels = cutnmix(**batch, step=0, **settings)
    harness.assert_same({"images": images, "labels": labels}, expected)
    dataset = tf.data.Dataset.from_tensors(batch)
    (mixed,) = dataset.apply(mix_dataset(layer, jit_compile=False))
    harness.assert_same(mixed, expected)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("layer", LAYERS)
def test_shapes_of_views_need_not_be_known(layer, jit_compile):
    layer, batch = of_three_peers(layer), own_views()
    specs = tf.TensorSpec([None, None, None, None, 3], tf.uint8), tf.TensorSpec([None], tf.int64)

    @tf.function(input_signature=specs, jit_compile=jit_compile)
    def mix(images, labels):
        return layer({"images": images, "labels": labels}, step=0)

    harness.assert_same(mix(**batch), layer(batch, step=0), rounded=["labels"])


def test_function_refuses_another_number_of_views():
    with pytest.raises(ValueError, match=r"must be num_peers=2.*\(6, 3, 5, 8, 3\)"):
        cutnmix(**own_views(), step=0, num_peers=2, num_classes=NUM_CLASSES)
