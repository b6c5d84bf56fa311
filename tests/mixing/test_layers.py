"""The layers: labels, views, seeds, settings, and what Keras asks of a layer."""

import numpy as np
import pytest
import tensorflow as tf

from tests import harness
from tests.mixing.batches import LAYERS, NUM_CLASSES, index_images, make_labels, photos, views
from tf_cutnmix import CutMix, CutNMix, FMix, MixUp, cutnmix
from tf_cutnmix.errors import InputError
from tf_cutnmix.mixing import layers


def dense(labels):
    """Labels `[B, K]` of any labels that `make_labels` makes."""
    return np.eye(NUM_CLASSES)[labels] if labels.ndim == 1 else labels


@pytest.mark.parametrize("layer", LAYERS)
def test_tiny_alpha_keeps_samples_or_swaps_them_whole(layer):
    images = index_images(200, 7, 5, "float32")
    mixed = layer(alpha=1e-6, num_classes=200, seed=0)({"images": images, "labels": np.arange(200)})
    pixels = mixed["images"].numpy().reshape(200, -1)
    np.testing.assert_array_equal(pixels, np.repeat(pixels[:, :1], pixels.shape[1], axis=1))
    np.testing.assert_array_equal(mixed["labels"], np.eye(200)[pixels[:, 0].astype(int)])
    assert 70 < (pixels[:, 0] == np.arange(200)).sum() < 130


@pytest.mark.parametrize("kind", ["integer", "one-hot", "soft"])
@pytest.mark.parametrize(
    "layer",
    [CutNMix(3), CutNMix(4, regions="spread"), CutNMix(1), CutMix(4.0, ratio_per="batch"), FMix()],
    ids=lambda layer: f"{layer.name}",
)
def test_labels_are_exact_to_the_pixel(layer, kind):
    layer = type(layer).from_config(layer.get_config() | {"num_classes": NUM_CLASSES, "seed": 0})
    for sides in ((5, 9), (8, 8), (1, 7)):
        batch = {"images": index_images(12, *sides), "labels": make_labels(12, kind)}
        mixed = layer(batch)
        pixels = mixed["images"].numpy().reshape(12, -1, *sides, 1)
        shares = np.mean(pixels == np.arange(12), axis=(2, 3))  # whose, of each view
        expected = shares @ dense(batch["labels"])
        assert mixed["labels"].dtype == "float32"
        for peer in range(pixels.shape[1]):
            np.testing.assert_allclose(mixed["labels"], expected[:, peer], rtol=1e-6, atol=1e-7)
        if sides == (5, 9):
            assert 0 < np.mean(shares * np.eye(12)[:, None]) < 1 / 12
    assert pixels.shape[1] == 1 or (pixels[:, 0] != pixels[:, 1]).any()


@pytest.mark.parametrize("kind", ["integer", "one-hot", "soft"])
def test_mixup_labels_hold_what_the_images_hold(kind):
    whose = np.broadcast_to(np.eye(12, dtype="float32")[:, None, None], [12, 2, 3, 12])
    batch = {"images": whose, "labels": make_labels(12, kind)}
    layer = MixUp(1.0, NUM_CLASSES, seed=0)
    mixed = layer(batch, step=4)
    draw = layer.draw(4, (12, 2, 3))
    part = np.eye(12) * draw.ratio[:, None] + np.eye(12)[draw.partner] * (1 - draw.ratio)[:, None]
    np.testing.assert_allclose(mixed["images"][:, 0, 0], part, rtol=1e-6)
    np.testing.assert_allclose(mixed["labels"], part @ dense(batch["labels"]), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        *(("float16", 2**-11), ("bfloat16", 2**-8), ("float32", 1e-6), ("float64", 1e-14)),
        *(("uint8", 0), ("int32", 0), ("uint32", 0)),
    ],
)
def test_mixup_is_as_exact_as_the_dtype_of_images(dtype, tolerance):
    values = np.random.default_rng(0).integers(256, size=[4, 5, 6, 3])
    if dtype in ("int32", "uint32"):
        limits = np.iinfo(dtype)
        values[0, 0, 0], values[1, 0, 0] = limits.max, limits.min
    images, layer = tf.cast(values, dtype), MixUp(alpha=1.0, num_classes=4, seed=0)
    mixed = layer({"images": images, "labels": np.arange(4)}, step=2)["images"]
    draw = layer.draw(2, (4, 5, 6))
    ratio = draw.ratio.numpy().astype(float)[:, None, None, None]
    expected = ratio * values + (1 - ratio) * values[draw.partner.numpy()]
    assert mixed.dtype == dtype
    if tolerance:
        np.testing.assert_allclose(tf.cast(mixed, tf.float64), expected, rtol=tolerance)
    else:  # to nearest; uint8 is blended in float32
        assert np.abs(mixed.numpy().astype(float) - expected).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("dtype", ["bool", "int64", "complex64"])
def test_mixup_refuses_what_it_cannot_blend(dtype):
    batch = {"images": np.ones((2, 2, 2, 1), dtype), "labels": np.arange(2)}
    with pytest.raises(ValueError, match=f"MixUp cannot blend images of {dtype}"):
        MixUp(num_classes=2, seed=0)(batch)


@pytest.mark.long
@pytest.mark.parametrize(
    ("layer", "dtype"),
    [
        (CutNMix(3, 0.2, NUM_CLASSES, regions="spread", probability=0.5, seed=1), "uint8"),
        (CutMix(0.2, ratio_per="batch", until_step=9), "float64"),
        (MixUp(num_classes=NUM_CLASSES, seed=1), "float32"),
    ],
    ids=["CutNMix", "CutMix", "MixUp"],
)
def test_layer_passes_the_harness(layer, dtype, tmp_path):
    batch = photos(labels="integer" if layer.num_classes else "soft", sample_weight=np.ones(6))
    batch["images"] = batch["images"].astype(dtype)
    rounded = ["labels", "images"] if type(layer) is MixUp else ["labels"]
    harness.check_layer(layer, batch, tmp_path, rounded)


def test_fmix_passes_the_harness_but_for_xla(tmp_path):
    """Which rounds: see the tests of masks."""
    layer, batch = FMix(num_classes=NUM_CLASSES, decay_power=2.0, seed=1), photos()
    harness.check_config(layer, batch)
    harness.check_saving(layer, batch, tmp_path / "model.keras")
    harness.check_mixed_precision(layer, batch)


@pytest.mark.parametrize("layer", LAYERS)
def test_outside_training_nothing_is_mixed(layer):
    layer = layer(num_classes=NUM_CLASSES, seed=0)
    for kind in ("integer", "one-hot", "soft"):
        batch = photos(labels=kind)
        unmixed = layer(batch, training=False)
        np.testing.assert_allclose(unmixed["labels"], dense(batch["labels"]), rtol=1e-6)
        assert unmixed["images"].shape == layer(batch, step=0)["images"].shape
        pixels = unmixed["images"].numpy().reshape(6, -1, *batch["images"].shape[1:])
        np.testing.assert_array_equal(
            pixels, np.repeat(batch["images"][:, None], len(pixels[0]), 1)
        )
    assert layer.calls == 0


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_counts_its_training_calls_and_applies_the_draw_that_it_shows(layer):
    layer, batch = layer(num_classes=NUM_CLASSES, seed=0), photos()
    for step in range(2):
        draw = layer.draw(step, batch["images"].shape[:3])
        harness.assert_same(layer.apply(batch, draw), layer(batch))
    assert layer.calls == 2


@pytest.mark.parametrize(
    "settings", [{}, {"num_peers": 3, "alpha": 0.5, "ratio_per": "batch", "regions": "spread"}]
)
def test_function_and_layer_are_one(settings):
    settings = {"num_classes": NUM_CLASSES, "seed": 3, **settings}
    batch, layer = photos(), CutNMix(**settings)
    compiled = tf.function(cutnmix, jit_compile=True)
    for mix in (cutnmix, compiled, lambda images, labels, **_: layer(images, labels, step=4)):
        images, labels = mix(**batch, step=4, **settings)
        found = {"images": images, "labels": labels}
        harness.assert_same(found, layer(batch, step=4), rounded=["labels"])


@pytest.mark.parametrize("layer", LAYERS)
def test_other_entries_pass_through(layer):
    others = {
        "name": tf.constant(list("abcdef")),
        "words": tf.ragged.constant([[1], [], [2, 3], [4], [5], [6]]),
        "nested": {"age": tf.range(6)},
    }
    mixed = layer(num_classes=NUM_CLASSES, seed=0)(photos(**others))
    assert mixed.keys() == {"images", "labels", *others}
    np.testing.assert_array_equal(mixed["name"], others["name"])
    assert mixed["words"].to_list() == others["words"].to_list()
    np.testing.assert_array_equal(mixed["nested"]["age"], np.arange(6))


# Views of each peer's own


def of_three_peers(layer):
    settings = {"num_peers": 3} if layer is CutNMix else {}
    return layer(num_classes=NUM_CLASSES, seed=0, **settings)


@pytest.mark.parametrize("layer", LAYERS)
def test_each_view_is_mixed_as_images_are(layer):
    layer, batch = of_three_peers(layer), views()
    mixed = layer(batch, step=4)
    assert mixed["images"].shape == batch["images"].shape
    for k in range(3):
        alone = layer(batch | {"images": batch["images"][:, k]}, step=4)
        expected = alone["images"][:, k] if alone["images"].ndim == 5 else alone["images"]
        np.testing.assert_array_equal(mixed["images"][:, k], expected)
        np.testing.assert_array_equal(mixed["labels"], alone["labels"])
    assert (mixed["images"] != batch["images"]).numpy().any()
    np.testing.assert_array_equal(layer(batch, training=False)["images"], batch["images"])


@pytest.mark.parametrize(("layer", "jit_compile"), [(CutNMix, True), (MixUp, False), (FMix, False)])
def test_shapes_need_not_be_known(layer, jit_compile):
    layer = of_three_peers(layer)
    for batch in (photos(), views()):
        shape = [*[None] * (batch["images"].ndim - 1), 3]
        specs = tf.TensorSpec(shape, tf.uint8), tf.TensorSpec([None], tf.int64)

        @tf.function(input_signature=specs, jit_compile=jit_compile)
        def mix(images, labels):
            return layer({"images": images, "labels": labels}, step=0)

        harness.assert_same(mix(**batch), layer(batch, step=0), rounded=["labels"])


# When


def mix_all(layer, step=0, **settings):
    layer = layer(alpha=1.0, num_classes=400, seed=0, **settings)
    result = layer(
        {"images": index_images(400, 6, 5, "float32"), "labels": np.arange(400)}, step=step
    )
    return result["images"].numpy().reshape(400, -1), result["labels"].numpy()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    ("settings", "step", "least", "most"),
    [
        ({"probability": 0.25}, 0, 0.65, 0.86),  # the standard deviation is 0.022
        ({"probability": 0.0}, 0, 1, 1),
        ({"until_step": 7}, 6, 0, 0.05),  # few samples are mixed with themselves
        ({"until_step": 7}, 7, 1, 1),
    ],
    ids=str,
)
def test_a_part_is_mixed_as_without_it_and_the_rest_stays(layer, settings, step, least, most):
    all_pixels, all_labels = mix_all(layer, step)
    pixels, labels = mix_all(layer, step, **settings)
    kept = np.all(labels == np.eye(400, dtype="float32"), axis=1)
    assert least <= kept.mean() <= most
    assert np.all(pixels[kept] == np.arange(400)[kept, None])
    np.testing.assert_array_equal(pixels[~kept], all_pixels[~kept])
    np.testing.assert_array_equal(labels[~kept], all_labels[~kept])


# Settings


OUT_OF_RANGE = [
    ({"alpha": 0}, "alpha must be a number above 0.*alpha=0"),
    ({"alpha": float("nan")}, "alpha must be a number above 0.*nan"),
    ({"num_classes": 0}, "num_classes must be 1 or more.*0"),
    ({"ratio_per": "bacth"}, "ratio_per must be 'sample' or 'batch'.*'bacth'"),
    ({"probability": 1.1}, "probability must be from 0 to 1.*1.1"),
    ({"until_step": -1}, "until_step must be 0 or more, or None.*-1"),
    ({"num_peers": 0}, "num_peers must be 1 or more.*num_peers=0"),
    ({"num_peers": 1.5}, "num_peers must be 1 or more.*num_peers=1.5"),
    ({"regions": "far"}, "regions must be 'uniform' or 'spread'.*'far'"),
    ({"decay_power": -1.0}, "decay_power must be 0 or more.*-1.0"),
]


@pytest.mark.parametrize(("settings", "words"), OUT_OF_RANGE, ids=str)
def test_setting_out_of_range_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        (FMix if "decay_power" in settings else CutNMix)(**settings)


@pytest.mark.parametrize(("name", "layer"), layers.MIXINGS.items())
def test_mixing_is_built_by_name(name, layer):
    built = layers.build(name, alpha=0.5, num_peers=3, regions="spread", num_classes=7, seed=2)
    assert type(built) is layer
    expected = {"alpha": 0.5, "num_classes": 7, "seed": 2}
    expected |= {"num_peers": 3, "regions": "spread"} if layer is CutNMix else {}
    assert built.get_config() | expected == built.get_config()


def test_no_mixing_is_built_for_none_and_an_unknown_one_is_refused_with_a_hint():
    assert layers.build("none", num_peers=3, regions="uniform") is None
    with pytest.raises(InputError, match="unknown --mix 'cutmx': did you mean 'cutmix'"):
        layers.build("cutmx", num_peers=3, regions="uniform")
