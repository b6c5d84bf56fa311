"""The layers: labels, masks, seeds, settings, and what Keras asks of a layer."""

import numpy as np
import pytest
import tensorflow as tf

from tests import harness
from tests.mixing.batches import LAYERS, NUM_CLASSES, index_images, make_labels, photos, to_numpy
from tf_cutnmix import CutMix, CutNMix, MixUp, cutnmix
from tf_cutnmix.errors import InputError
from tf_cutnmix.mixing import layers
from tf_cutnmix.mixing.layers import FMix


def shares(views):
    """Of views `[B, n, H, W, 1]` of `index_images`: what part of each is whose, `[B, n, B]`."""
    return np.mean(np.asarray(views) == np.arange(len(views)), axis=(2, 3))


def dense(labels):
    """Labels `[B, K]` of any labels that `make_labels` makes."""
    return np.eye(NUM_CLASSES)[labels] if labels.ndim == 1 else labels


def test_one_peer_is_cutmix():
    one, other = (
        layer(num_classes=NUM_CLASSES, seed=0, **settings)(photos())
        for layer, settings in ((CutNMix, {"num_peers": 1}), (CutMix, {}))
    )
    np.testing.assert_array_equal(one["images"][:, 0], other["images"])
    np.testing.assert_array_equal(one["labels"], other["labels"])


@pytest.mark.parametrize("layer", LAYERS)
def test_tiny_alpha_keeps_samples_or_swaps_them_whole(layer):
    images = index_images(200, 7, 5, "float32")
    mixed = layer(alpha=1e-6, num_classes=200, seed=0)({"images": images, "labels": np.arange(200)})
    views = mixed["images"].numpy().reshape(200, -1)
    np.testing.assert_array_equal(views, np.repeat(views[:, :1], views.shape[1], axis=1))
    np.testing.assert_array_equal(mixed["labels"], np.eye(200)[views[:, 0].astype(int)])
    assert 70 < (views[:, 0] == np.arange(200)).sum() < 130


@pytest.mark.parametrize("kind", ["integer", "one-hot", "soft"])
@pytest.mark.parametrize("sides", [(5, 9), (8, 8), (1, 7)], ids=str)
@pytest.mark.parametrize("ratio_per", ["sample", "batch"])
@pytest.mark.parametrize("layer", [CutNMix, CutMix, FMix])
def test_labels_are_exact_to_the_pixel(layer, ratio_per, sides, kind):
    batch = {"images": index_images(12, *sides), "labels": make_labels(12, kind)}
    mixed = layer(num_classes=NUM_CLASSES, ratio_per=ratio_per, seed=0)(batch)
    views = mixed["images"].numpy().reshape(12, -1, *sides, 1)
    expected = shares(views) @ dense(batch["labels"])
    assert mixed["labels"].dtype == "float32"
    for peer in range(views.shape[1]):
        np.testing.assert_allclose(mixed["labels"], expected[:, peer], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["integer", "one-hot", "soft"])
@pytest.mark.parametrize("ratio_per", ["sample", "batch"])
def test_mixup_labels_hold_what_the_images_hold(ratio_per, kind):
    whose = np.broadcast_to(np.eye(12, dtype="float32")[:, None, None], [12, 2, 3, 12])
    batch = {"images": whose, "labels": make_labels(12, kind)}
    mixed = MixUp(1.0, NUM_CLASSES, ratio_per, seed=0)(batch)
    expected = mixed["images"].numpy()[:, 0, 0].astype("float64") @ dense(batch["labels"])
    np.testing.assert_allclose(mixed["labels"], expected, rtol=1e-6, atol=1e-7)
    assert len(np.unique(mixed["images"])) > 2


def test_mixup_ratio_is_the_part_that_stays():
    layer = MixUp(alpha=1.0, num_classes=12, seed=0)
    mixed = layer(
        {"images": index_images(12, 2, 3).astype("int32"), "labels": np.arange(12)}, step=4
    )
    draw = layer.draw(4, (12, 2, 3))
    expected = (
        np.eye(12) * draw.ratio[:, None] + np.eye(12)[draw.partner] * (1 - draw.ratio)[:, None]
    )
    np.testing.assert_allclose(mixed["labels"], expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bool", "int64", "uint64", "complex64"])
def test_mixup_refuses_what_it_cannot_blend(dtype):
    batch = {"images": np.ones((2, 2, 2, 1), dtype), "labels": np.arange(2)}
    with pytest.raises(ValueError, match=f"MixUp cannot blend images of {dtype}"):
        MixUp(num_classes=2, seed=0)(batch)


@pytest.mark.parametrize("dtype", ["int32", "uint32"])
def test_mixup_of_whole_numbers_is_right_up_to_their_limits(dtype):
    limits = np.iinfo(dtype)
    images = np.array([limits.max, limits.min, limits.max - 1, 7], dtype).reshape(4, 1, 1, 1)
    layer = MixUp(alpha=1.0, num_classes=4, seed=0)
    mixed = layer({"images": images, "labels": np.arange(4)}, step=2)["images"]
    draw = layer.draw(2, (4, 1, 1))
    ratio, exact = draw.ratio.numpy().astype(float), images.ravel().astype(float)
    expected = np.rint(ratio * exact + (1 - ratio) * exact[draw.partner.numpy()])
    np.testing.assert_array_equal(np.ravel(mixed), expected.astype(dtype))


def harness_batch(layer, image_dtype, mask_dtype):
    batch = photos(labels="integer" if layer.num_classes else "soft", sample_weight=np.ones(6))
    batch["segmentation_masks"] = (batch["images"][..., 0] % 2).astype(mask_dtype)
    return batch | {"images": batch["images"].astype(image_dtype)}


@pytest.mark.long
@pytest.mark.parametrize("layer", [CutNMix, CutMix, FMix])
@pytest.mark.parametrize(
    ("settings", "image_dtype", "mask_dtype"),
    [
        ({"num_classes": NUM_CLASSES, "seed": 1}, "uint8", "int32"),
        ({"alpha": 0.2, "ratio_per": "batch"}, "float64", "float32"),
    ],
    ids=["integer labels", "soft labels"],
)
def test_pasting_layer_passes_the_harness(layer, settings, image_dtype, mask_dtype, tmp_path):
    layer = layer(**settings)
    batch = harness_batch(layer, image_dtype, mask_dtype)
    harness.check_layer(layer, batch, tmp_path, rounded=["labels"])


def test_spread_regions_pass_the_harness(tmp_path):
    layer = CutNMix(num_peers=3, num_classes=NUM_CLASSES, regions="spread", seed=1)
    batch = harness_batch(layer, "float16", "uint8")
    harness.check_layer(layer, batch, tmp_path, rounded=["labels"])


@pytest.mark.parametrize("num_classes", [None, NUM_CLASSES])
def test_mixup_passes_the_harness(num_classes, tmp_path):
    layer = MixUp(num_classes=num_classes, seed=1)
    batch = harness_batch(layer, "float32", "float32")
    rounded = ["images", "labels", "segmentation_masks"]
    harness.check_layer(layer, batch, tmp_path, rounded)


@pytest.mark.parametrize("kind", ["integer", "one-hot", "soft"])
@pytest.mark.parametrize("layer", LAYERS)
def test_outside_training_nothing_is_mixed(layer, kind):
    batch = photos(labels=kind, segmentation_masks=np.ones([6, 5, 8], "float32"))
    layer = layer(num_classes=NUM_CLASSES, seed=0)
    mixed = layer(batch)
    calls = int(layer.calls)
    unmixed = layer(batch, training=False)
    assert layer.calls == calls
    np.testing.assert_allclose(unmixed["labels"], dense(batch["labels"]), rtol=1e-6)
    for name in ("images", "segmentation_masks"):
        assert unmixed[name].shape == mixed[name].shape
        views = unmixed[name].numpy().reshape(6, -1, *batch[name].shape[1:])
        np.testing.assert_array_equal(views, np.repeat(batch[name][:, None], views.shape[1], 1))


def test_layer_counts_its_training_calls():
    layer, batch = CutNMix(num_classes=NUM_CLASSES, seed=0), photos()
    for step in range(3):
        harness.assert_same(layer(batch, step=step), layer(batch))
    assert layer.calls == 3
    assert (layer(batch, step=0)["images"] != layer(batch, step=1)["images"]).numpy().any()


@pytest.mark.parametrize("layer", LAYERS)
def test_every_seed_draws_its_own_batches(layer):
    batch = photos()
    drawn = [layer(num_classes=NUM_CLASSES, seed=seed)(batch, step=0) for seed in range(4)]
    assert len({mixed["images"].numpy().tobytes() for mixed in drawn}) == 4


@pytest.mark.parametrize(
    "settings", [{}, {"num_peers": 3, "alpha": 0.5, "ratio_per": "batch", "regions": "spread"}]
)
def test_function_and_layer_are_one(settings):
    settings = {"num_classes": NUM_CLASSES, "seed": 3, **settings}
    batch = photos()
    images, labels = cutnmix(**batch, step=4, **settings)
    harness.assert_same({"images": images, "labels": labels}, CutNMix(**settings)(batch, step=4))


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_applies_the_draw_that_it_shows(layer):
    layer, batch = layer(num_classes=NUM_CLASSES, seed=0), photos()
    draw = layer.draw(3, batch["images"].shape[:3])
    harness.assert_same(layer.apply(batch, draw), layer(batch, step=3))


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_shapes_need_not_be_known(jit_compile):
    layer = CutNMix(num_classes=NUM_CLASSES, seed=0)
    specs = tf.TensorSpec([None, None, None, 3], tf.uint8), tf.TensorSpec([None], tf.int64)

    @tf.function(input_signature=specs, jit_compile=jit_compile)
    def mix(images, labels):
        return layer({"images": images, "labels": labels}, step=0)

    batch = photos()
    harness.assert_same(mix(**batch), layer(batch, step=0), rounded=["labels"])


@pytest.mark.parametrize("layer", [CutNMix, CutMix, FMix])
@pytest.mark.parametrize("channels", [[], [1], [4]], ids=str)
def test_masks_are_cut_with_the_images(layer, channels):
    images = index_images(8, 5, 9)
    masks = np.broadcast_to(images.reshape(8, 5, 9, *[1 for _ in channels]), [8, 5, 9, *channels])
    batch = {"images": images, "labels": np.arange(8), "segmentation_masks": masks.astype("uint8")}
    mixed = to_numpy(layer(num_classes=8, seed=0)(batch))
    views = mixed["images"] if channels else mixed["images"][..., 0]
    assert mixed["segmentation_masks"].dtype == "uint8"
    np.testing.assert_array_equal(
        mixed["segmentation_masks"], np.broadcast_to(views, mixed["segmentation_masks"].shape)
    )


def test_mixup_blends_float_masks_with_the_images():
    images = index_images(8, 5, 9, "float32")
    batch = {"images": images, "labels": np.arange(8), "segmentation_masks": images[..., 0]}
    mixed = MixUp(1.0, num_classes=8, seed=0)(batch)
    np.testing.assert_array_equal(mixed["segmentation_masks"], mixed["images"][..., 0])


@pytest.mark.parametrize("layer", LAYERS)
def test_other_entries_pass_through(layer):
    others = {
        "sample_weight": np.arange(6.0),
        "name": tf.constant(list("abcdef")),
        "words": tf.ragged.constant([[1], [], [2, 3], [4], [5], [6]]),
        "nested": {"age": tf.range(6)},
    }
    mixed = layer(num_classes=NUM_CLASSES, seed=0)(photos(**others))
    assert mixed.keys() == {"images", "labels", *others}
    np.testing.assert_array_equal(mixed["sample_weight"], others["sample_weight"])
    np.testing.assert_array_equal(mixed["name"], others["name"])
    assert mixed["words"].to_list() == others["words"].to_list()
    np.testing.assert_array_equal(mixed["nested"]["age"], np.arange(6))


OUT_OF_RANGE = [
    ({"alpha": 0}, "alpha must be a number above 0.*alpha=0"),
    ({"alpha": -1.0}, "alpha must be a number above 0"),
    ({"alpha": float("inf")}, "alpha must be a number above 0.*inf"),
    ({"alpha": float("nan")}, "alpha must be a number above 0.*nan"),
    ({"num_classes": 0}, "num_classes must be 1 or more.*0"),
    ({"ratio_per": "bacth"}, "ratio_per must be 'sample' or 'batch'.*'bacth'"),
    ({"seed": -1}, "seed must be from 0.*seed=-1"),
]
OF_PEERS = [
    ({"num_peers": 0}, "num_peers must be 1 or more.*num_peers=0"),
    ({"num_peers": 1.5}, "num_peers must be 1 or more.*num_peers=1.5"),
    ({"regions": "far"}, "regions must be 'uniform' or 'spread'.*'far'"),
]
OF_MASKS = [
    ({"decay_power": -1.0}, "decay_power must be 0 or more.*-1.0"),
    ({"decay_power": float("nan")}, "decay_power must be 0 or more.*nan"),
]


@pytest.mark.parametrize(
    ("layer", "settings", "words"),
    [(layer, *case) for layer in LAYERS for case in OUT_OF_RANGE]
    + [(CutNMix, *case) for case in OF_PEERS]
    + [(FMix, *case) for case in OF_MASKS],
)
def test_setting_out_of_range_is_refused(layer, settings, words):
    with pytest.raises(ValueError, match=words):
        layer(**settings)


@pytest.mark.parametrize(("settings", "words"), [*OUT_OF_RANGE, *OF_PEERS])
def test_function_refuses_what_the_layer_refuses(settings, words):
    with pytest.raises(ValueError, match=words):
        cutnmix(**photos(), step=0, **{"num_classes": NUM_CLASSES, **settings})


@pytest.mark.parametrize(
    ("name", "layer"),
    [("cutnmix", CutNMix), ("cutmix", CutMix), ("mixup", MixUp), ("fmix", FMix)],
)
def test_mixing_is_built_by_name(name, layer):
    built = layers.build(name, alpha=0.5, num_peers=3, regions="spread", num_classes=7, seed=2)
    assert type(built) is layer
    expected = {"alpha": 0.5, "num_classes": 7, "seed": 2}
    expected |= {"num_peers": 3, "regions": "spread"} if layer is CutNMix else {}
    assert built.get_config() | expected == built.get_config()


def test_no_mixing_is_built_for_none():
    assert layers.build("none", num_peers=3, regions="uniform") is None


def test_unknown_mixing_is_refused_with_a_hint():
    with pytest.raises(InputError, match="unknown --mix 'cutmx': did you mean 'cutmix'"):
        layers.build("cutmx", num_peers=3, regions="uniform")
