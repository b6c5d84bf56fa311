"""Mixed samples: draws against SciPy, pixels against NumPy, labels against the pixels."""

import itertools

import harness
import keras
import keras_cv
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tf_cutnmix import CutMix, CutNMix, MixUp, cutnmix, draws, mix_dataset, mixing
from tf_cutnmix.errors import InputError
from tf_cutnmix.mixing import Draw, FMix, MaskDraw

NUM_CLASSES = 10
ONE_VIEW = [CutMix, MixUp, FMix]
LAYERS = [CutNMix, *ONE_VIEW]
SEEDS = st.integers(0, 2**55 - 1)
STEPS = st.integers(0, 2**63 - 1)


def sample(batch, height, width, *, seed=0, step=0, alpha=1.0, num_peers=2, **settings):
    """A draw as NumPy arrays."""
    shape = (batch, height, width)
    draw = mixing.sample(seed, step, shape, alpha=alpha, num_peers=num_peers, **settings)
    return Draw(*(part.numpy() for part in draw))


def index_images(batch, height, width, dtype="int32"):
    """Images whose every pixel holds the index of its sample."""
    return np.ones([batch, height, width, 1], dtype) * np.arange(batch)[:, None, None, None]


def shares(views):
    """Of views `[B, n, H, W, 1]` of `index_images`: what part of each is whose, `[B, n, B]`."""
    return np.mean(np.asarray(views) == np.arange(len(views)), axis=(2, 3))


def photos(size=6, height=5, width=8, labels="integer", **entries):
    """A batch of random uint8 images with labels of one kind, and further entries."""
    random = np.random.default_rng(1)
    images = random.integers(256, size=[size, height, width, 3]).astype("uint8")
    return {"images": images, "labels": make_labels(size, labels), **entries}


def make_labels(size, kind):
    random = np.random.default_rng(2)
    classes = random.integers(NUM_CLASSES, size=size)
    soft = random.dirichlet(np.ones(NUM_CLASSES), size)
    return {"integer": classes, "one-hot": np.eye(NUM_CLASSES)[classes], "soft": soft}[kind]


def dense(labels):
    """Labels `[B, K]` of any labels that `make_labels` makes."""
    return np.eye(NUM_CLASSES)[labels] if labels.ndim == 1 else labels


def to_numpy(structure):
    return keras.tree.map_structure(np.asarray, structure)


# Ratios


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_ratio_table_is_the_inverse_of_the_beta_distribution(alpha):
    table = mixing.beta_quantiles(alpha)
    lower = table[: len(table) // 2]
    levels = (np.arange(len(table)) + 0.5) / len(table)
    cdf = scipy.stats.beta(alpha, alpha).cdf(lower)
    np.testing.assert_allclose(cdf, levels[: len(lower)], rtol=1e-5)
    np.testing.assert_allclose(table + table[::-1], 1, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_ratios_of_one_batch_are_beta_distributed(alpha):
    reference = scipy.stats.beta(alpha, alpha).rvs(200_000, random_state=0)
    ratios = sample(20_000, 4, 4, alpha=alpha).ratio
    # Beyond float32's last number below 1 lie 2 % of Beta(0.2, 0.2): the reference is rounded.
    assert scipy.stats.ks_2samp(ratios, reference.astype("float32")).pvalue > 1e-3


@pytest.mark.parametrize("ratio_per", ["sample", "batch"])
def test_ratios_of_successive_steps_are_beta_distributed(ratio_per):
    settings = {"alpha": 4.0, "num_peers": 1, "ratio_per": ratio_per}

    def draw(step):
        return mixing.sample(0, step, (2, 4, 4), **settings).ratio[0]

    ratios = harness.drawn(draw, 1000, tf.float32)
    assert scipy.stats.kstest(ratios, scipy.stats.beta(4, 4).cdf).pvalue > 1e-3


def test_ratio_per_batch_shares_the_ratio_but_not_the_corner():
    draw = sample(50, 32, 32, ratio_per="batch")
    assert len(np.unique(draw.ratio)) == 1
    assert len(np.unique(draw.boxes[..., 2:].reshape(-1, 2), axis=0)) == 1
    assert len(np.unique(draw.boxes[..., :2].reshape(-1, 2), axis=0)) > 50


def test_ratio_per_sample_draws_one_for_each():
    assert len(np.unique(sample(50, 32, 32).ratio)) == 50


# Partners and boxes


@given(SEEDS, STEPS, st.integers(0, 50))
def test_partners_are_a_permutation(seed, step, batch):
    partner = sample(batch, 4, 4, seed=seed, step=step).partner
    np.testing.assert_array_equal(np.sort(partner), np.arange(batch))


@given(
    place=st.fixed_dictionaries({"seed": SEEDS, "step": STEPS}),
    sides=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    num_peers=st.integers(1, 4),
    alpha=st.sampled_from([0.2, 1.0, 4.0]),
    ratio_per=st.sampled_from(["sample", "batch"]),
    regions=st.sampled_from(["uniform", "spread"]),
)
def test_boxes_are_whole_and_of_one_size(place, sides, num_peers, alpha, ratio_per, regions):
    settings = {"alpha": alpha, "ratio_per": ratio_per, "regions": regions}
    draw = sample(50, *sides, num_peers=num_peers, **place, **settings)
    assert draw.boxes.shape == (50, num_peers, 4)
    corners, sizes = draw.boxes[..., :2], draw.boxes[..., 2:]
    assert (corners >= 0).all()
    assert (corners + sizes <= sides).all()
    exact = np.sqrt(1 - draw.ratio.astype("float64"))[:, None] * sides
    no_tie = abs(exact % 1 - 0.5) > 1e-3
    for peer in range(num_peers):
        np.testing.assert_array_equal(sizes[:, peer], sizes[:, 0])
        np.testing.assert_array_equal(sizes[:, peer][no_tie], np.round(exact)[no_tie])


def test_corners_are_uniform_and_independent_between_peers():
    height, width = 4, 6
    boxes = sample(30_000, height, width, seed=1, ratio_per="batch").boxes
    positions = np.array([height, width]) - boxes[0, 0, 2:] + 1
    assert (positions > 1).all(), "choose a seed with a smaller box"
    place = boxes[..., 0] * positions[1] + boxes[..., 1]
    both = np.ravel_multi_index((place[:, 0], place[:, 1]), [positions.prod()] * 2)
    counts = np.bincount(both, minlength=positions.prod() ** 2)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_ratio_partner_and_corner_are_independent():
    def draw(step):
        return mixing.sample(0, step, (2, 32, 32), alpha=1.0, num_peers=1)

    drawn = harness.drawn(draw, 1000, Draw(tf.float32, tf.int32, tf.int32))
    ratio, swapped, boxes = drawn.ratio[:, 0], drawn.partner[:, 0] == 1, drawn.boxes[:, 0, 0]
    top = (boxes[:, 0] + 0.5) / (33 - boxes[:, 2])
    assert scipy.stats.spearmanr(ratio, top).pvalue > 1e-3
    assert scipy.stats.ks_2samp(ratio[swapped], ratio[~swapped]).pvalue > 1e-3
    assert scipy.stats.ks_2samp(top[swapped], top[~swapped]).pvalue > 1e-3


def mean_pair_iou(boxes):
    """The mean intersection over union of the pairs of boxes `[B, n, 4]` of an image."""
    ends = boxes[..., :2] + boxes[..., 2:]
    ious = []
    for one, two in itertools.combinations(range(boxes.shape[1]), 2):
        low = np.maximum(boxes[:, one, :2], boxes[:, two, :2])
        shared = np.maximum(np.minimum(ends[:, one], ends[:, two]) - low, 0).prod(axis=-1)
        area = boxes[:, one, 2:].prod(axis=-1) + boxes[:, two, 2:].prod(axis=-1)
        ious.append(shared[area > 0] / (area - shared)[area > 0])
    return np.mean(ious)


def simulated_boxes(batch, side):
    """Uniform boxes of two peers for alpha = 1, where the ratio is uniform, made by NumPy."""
    random = np.random.default_rng(0)
    size = np.round(side * np.sqrt(random.random([batch, 1, 1]))).astype(int)
    corners = random.integers(np.broadcast_to(side - size + 1, [batch, 2, 2]))
    return np.concatenate([corners, np.broadcast_to(size, corners.shape)], axis=-1)


def test_uniform_boxes_overlap_by_half():
    expected = mean_pair_iou(simulated_boxes(200_000, 32))
    assert mean_pair_iou(sample(20_000, 32, 32).boxes) == pytest.approx(expected, abs=0.01)
    assert expected == pytest.approx(0.54, abs=0.005)


@pytest.mark.parametrize("num_peers", [2, 3, 4])
def test_spread_boxes_overlap_less(num_peers):
    uniform = sample(2000, 32, 32, num_peers=num_peers).boxes
    spread = sample(2000, 32, 32, num_peers=num_peers, regions="spread").boxes
    assert mean_pair_iou(spread) < mean_pair_iou(uniform) - 0.05
    np.testing.assert_array_equal(spread[..., 2:], uniform[..., 2:])


def mean_iou_of_pixels(boxes):
    """The mean over samples and pairs of boxes, from the sets of pixels in them."""
    ious = []
    for sample_boxes in boxes:
        sets = [
            set(itertools.product(range(top, top + height), range(left, left + width)))
            for top, left, height, width in sample_boxes
        ]
        pairs = itertools.combinations(sets, 2) if sets[0] else []
        ious += [len(one & two) / len(one | two) for one, two in pairs]
    return np.mean(ious) if ious else 0


@given(
    seed=SEEDS,
    batch=st.integers(1, 6),
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    num_peers=st.integers(1, 4),
    alpha=st.sampled_from([1e-6, 0.2, 4.0]),
)
def test_overlap_is_that_of_the_sets_of_pixels(seed, batch, sides, num_peers, alpha):
    draw = sample(batch, *sides, seed=seed, num_peers=num_peers, alpha=alpha)
    overlap = mixing.overlap(draw)
    assert overlap.dtype == "float32"
    assert overlap.shape == []
    assert float(overlap) == pytest.approx(mean_iou_of_pixels(draw.boxes), rel=1e-5)


def test_empty_boxes_do_not_count_as_overlap():
    boxes = np.array([[[0, 0, 2, 2], [0, 1, 2, 2]], [[3, 3, 0, 0]] * 2], "int32")
    draw = Draw(np.ones(2, "float32"), np.arange(2, dtype="int32"), boxes)
    assert float(mixing.overlap(draw)) == pytest.approx(1 / 3)
    assert float(mixing.overlap(draw._replace(boxes=boxes[1:]))) == 0


def test_overlap_compiles_and_is_lower_for_spread_boxes():
    overlap = tf.function(mixing.overlap, jit_compile=True)
    uniform, spread = (sample(500, 32, 32, regions=name) for name in ("uniform", "spread"))
    assert float(overlap(uniform)) == pytest.approx(float(mixing.overlap(uniform)), rel=1e-6)
    assert float(overlap(spread)) < float(overlap(uniform)) - 0.05


# Masks of FMix


def sample_mask(batch, height, width, *, seed=0, step=0, alpha=1.0, **settings):
    """A draw of FMix as NumPy arrays."""
    draw = mixing.sample_mask(seed, step, (batch, height, width), alpha=alpha, **settings)
    return MaskDraw(*(part.numpy() for part in draw))


def pasted_pixels(draw):
    """How many pixels the ratios of a draw of FMix stand for, unless they tie: then NaN."""
    exact = (1 - draw.ratio.astype("float64")) * draw.mask[0].size
    return np.where(abs(exact % 1 - 0.5) > 1e-3, np.round(exact), np.nan)


def numpy_noise(seed, batch, height, width, decay_power):
    """The paper's low-pass filtered noise, in float64, of the same random integers."""
    key = draws.key(seed, 0, draws.Stream.NOISE)
    integers = draws.integers(key, [2, batch, height, width], 2**16).numpy()
    real, imaginary = scipy.stats.norm.ppf((integers + 0.5) / 2**16)
    rows, columns = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    frequency = np.maximum(np.hypot(rows, columns), 1 / max(height, width))
    return np.fft.ifft2((real + 1j * imaginary) / frequency**decay_power).real


@pytest.mark.parametrize("decay_power", [0.0, 1.5, 3.0])
@pytest.mark.parametrize("sides", [(16, 16), (9, 14), (8, 5), (1, 7)], ids=str)
def test_mask_holds_the_highest_pixels_of_filtered_noise(sides, decay_power):
    draw = sample_mask(64, *sides, seed=3, decay_power=decay_power)
    noise = numpy_noise(3, 64, *sides, decay_power).reshape(64, -1)
    ranks = np.argsort(np.argsort(-noise))
    expected = ranks < draw.mask.sum(axis=(1, 2))[:, None]
    # Nearly equal pixels may be ranked in another order: the transform rounds.
    assert np.mean(draw.mask.reshape(64, -1) != expected) < 1e-3


@pytest.mark.parametrize("ratio_per", ["sample", "batch"])
def test_mask_holds_as_many_pixels_as_the_ratio_says(ratio_per):
    draw = sample_mask(500, 7, 9, ratio_per=ratio_per)
    expected = pasted_pixels(draw)
    known = ~np.isnan(expected)
    assert known.sum() > 400 or ratio_per == "batch"
    np.testing.assert_array_equal(draw.mask.sum(axis=(1, 2))[known], expected[known])
    assert len(np.unique(draw.ratio)) == (500 if ratio_per == "sample" else 1)


def test_mask_holds_as_many_pixels_where_all_are_equal():
    values = tf.constant([[0.0, -0.0, -1.0, 2.0, 2.0]] * 6)
    highest = mixing._highest(values, tf.range(6)).numpy()
    np.testing.assert_array_equal(highest.sum(axis=1), range(6))
    np.testing.assert_array_equal(highest[2], [False, False, False, True, True])
    equal = mixing._highest(tf.zeros([6, 5]), tf.range(6)).numpy()
    np.testing.assert_array_equal(equal.sum(axis=1), range(6))


def test_mask_is_the_same_under_xla_but_for_near_ties():
    def draw(step):
        return mixing.sample_mask(0, step, (32, 32, 32), alpha=1.0)

    step = tf.constant(7, tf.int64)
    compiled, eager = (
        to_numpy(one(step)._asdict()) for one in (tf.function(draw, jit_compile=True), draw)
    )
    np.testing.assert_array_equal(compiled["ratio"], eager["ratio"])
    np.testing.assert_array_equal(compiled["partner"], eager["partner"])
    masks, others = compiled["mask"], eager["mask"]
    np.testing.assert_array_equal(masks.sum(axis=(1, 2)), others.sum(axis=(1, 2)))
    assert (masks != others).sum(axis=(1, 2)).max() <= 4


def test_ratios_and_partners_of_masks_are_those_of_boxes():
    boxes, masks = sample(40, 6, 6, alpha=0.3), sample_mask(40, 6, 6, alpha=0.3)
    np.testing.assert_array_equal(boxes.ratio, masks.ratio)
    np.testing.assert_array_equal(boxes.partner, masks.partner)


def test_every_pixel_is_pasted_as_often():
    masks = sample_mask(4000, 5, 6, ratio_per="batch").mask
    share = masks[0].mean()
    assert 0.2 < share < 0.8, "choose another seed"
    deviation = np.sqrt(share * (1 - share) / len(masks))
    assert abs(masks.mean(axis=0) - share).max() < 4 * deviation


def boundary(masks):
    """The part of neighbouring pixels that differ, of each mask `[B, H, W]`."""
    down, right = masks[:, 1:] != masks[:, :-1], masks[:, :, 1:] != masks[:, :, :-1]
    return (down.mean(axis=(1, 2)) + right.mean(axis=(1, 2))) / 2


def test_masks_have_the_boundaries_of_those_of_keras_cv():
    # At other decay powers theirs differ: real and imaginary parts are read from two rows.
    images, one_hot = index_images(400, 32, 32, "float32"), np.eye(400, dtype="float32")
    layer = keras_cv.layers.FourierMix(alpha=1.0, decay_power=3, seed=0)
    dataset = tf.data.Dataset.from_tensors({"images": images, "labels": one_hot})
    (mixed,) = dataset.map(lambda batch: layer(batch, training=True))
    theirs = mixed["images"].numpy()[..., 0] != images[..., 0]
    means = []
    for drawn in (sample_mask(400, 32, 32, decay_power=3.0).mask, theirs):
        halves = drawn[abs(drawn.mean(axis=(1, 2)) - 0.5) < 0.25]
        assert len(halves) > 150
        means.append(boundary(halves).mean())
    assert means[0] == pytest.approx(means[1], rel=0.1)


def test_higher_decay_makes_smoother_masks():
    lengths = [boundary(sample_mask(100, 16, 16, decay_power=d).mask).mean() for d in (0, 1, 3)]
    assert lengths[0] > 1.5 * lengths[1] > 2 * lengths[2]


def test_mask_selects_the_pixels_that_numpy_does():
    images, draw = photos()["images"], sample_mask(6, 5, 8)
    pasted = mixing.paste_mask(tf.constant(images), draw)
    expected = np.where(draw.mask[..., None], images[draw.partner], images)
    assert pasted.dtype == "uint8"
    np.testing.assert_array_equal(pasted, expected)


# Pasting


@st.composite
def pastes(draw):
    """Images of random bits, NaN included, and any draw for them."""
    dtype = draw(st.sampled_from(["uint8", "int32", "float16", "bfloat16", "float32", "float64"]))
    dtype = tf.as_dtype(dtype).as_numpy_dtype
    batch, height, width, channels = draw(hnp.array_shapes(min_dims=4, max_dims=4, max_side=9))
    num_peers = draw(st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    bits = random.bytes(batch * height * width * channels * np.dtype(dtype).itemsize)
    images = np.frombuffer(bits, dtype).reshape(batch, height, width, channels)
    sizes = random.integers([0, 0], [height + 1, width + 1], [batch, 1, 2])
    sizes = np.repeat(sizes, num_peers, axis=1)
    corners = random.integers(np.array([height, width]) - sizes + 1)
    boxes = np.concatenate([corners, sizes], axis=-1).astype("int32")
    ratio = random.random(batch).astype("float32")
    return images, Draw(ratio, random.permutation(batch).astype("int32"), boxes)


@given(pastes())
def test_paste_selects_the_pixels_that_numpy_does(arguments):
    images, draw = arguments
    expected = np.repeat(images[:, None], draw.boxes.shape[1], axis=1)
    for i, peer in np.ndindex(draw.boxes.shape[:2]):
        top, left, height, width = draw.boxes[i, peer]
        box = np.s_[top : top + height, left : left + width]
        expected[i, peer][box] = images[draw.partner[i]][box]
    views = mixing.paste(tf.constant(images), Draw(*map(tf.constant, draw))).numpy()
    assert views.dtype == images.dtype
    assert views.shape == expected.shape
    assert views.tobytes() == expected.tobytes()


# Views


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


@pytest.mark.parametrize("layer", [CutNMix, FMix])
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


@pytest.mark.parametrize("regions", ["uniform", "spread"])
def test_every_peer_pastes_the_same_number_of_pixels(regions):
    batch = {"images": index_images(64, 9, 13), "labels": np.arange(64)}
    views = CutNMix(4, num_classes=64, regions=regions, seed=0)(batch)["images"].numpy()
    own = (views[..., 0] == np.arange(64)[:, None, None, None]).sum(axis=(2, 3))
    assert len(np.unique(own)) > 10
    np.testing.assert_array_equal(own, np.repeat(own[:, :1], 4, axis=1))
    assert (views[:, 0] != views[:, 1]).any()


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


# Labels


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
    mixed = layer({"images": index_images(12, 2, 3), "labels": np.arange(12)}, step=4)
    draw = layer.draw(4, (12, 2, 3))
    expected = (
        np.eye(12) * draw.ratio[:, None] + np.eye(12)[draw.partner] * (1 - draw.ratio)[:, None]
    )
    np.testing.assert_allclose(mixed["labels"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float16", 2**-11), ("bfloat16", 2**-8), ("float32", 1e-6), ("float64", 1e-14)],
)
def test_blend_of_floats_is_as_exact_as_their_dtype(dtype, tolerance):
    images, draw = blend_arguments(dtype)
    mixed = mixing.blend(images, draw)
    assert mixed.dtype == dtype
    np.testing.assert_allclose(tf.cast(mixed, tf.float64), blended(images, draw), rtol=tolerance)


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_blend_of_whole_numbers_rounds_to_nearest(dtype):
    images, draw = blend_arguments(dtype)
    mixed = mixing.blend(images, draw)
    assert mixed.dtype == dtype
    assert np.abs(tf.cast(mixed, tf.float64) - blended(images, draw)).max() <= 0.5 + 1e-4


def blend_arguments(dtype):
    images = tf.cast(np.random.default_rng(0).integers(256, size=[4, 5, 6, 3]), dtype)
    ratio = tf.constant([0.0, 1.0, 0.25, 0.7])
    return images, Draw(ratio, tf.constant([2, 0, 3, 1]), tf.zeros([4, 1, 4], tf.int32))


def blended(images, draw):
    values = tf.cast(images, tf.float64).numpy()
    ratio = draw.ratio.numpy().astype("float64")[:, None, None, None]
    return ratio * values + (1 - ratio) * values[draw.partner]


# Layers


def harness_batch(layer, image_dtype, mask_dtype):
    batch = photos(labels="integer" if layer.num_classes else "soft", sample_weight=np.ones(6))
    batch["segmentation_masks"] = (batch["images"][..., 0] % 2).astype(mask_dtype)
    return batch | {"images": batch["images"].astype(image_dtype)}


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


@pytest.mark.parametrize("num_parallel_calls", [None, 8], ids=["serial", "parallel"])
@pytest.mark.parametrize("layer", LAYERS)
def test_dataset_map_repeats_the_layer(layer, num_parallel_calls):
    layer, batch = layer(num_classes=NUM_CLASSES, seed=0), photos(24)
    batches = tf.data.Dataset.from_tensor_slices(batch).batch(3)
    mixed = batches.enumerate().map(
        lambda step, batch: layer(batch, step=step), num_parallel_calls=num_parallel_calls
    )
    for step, (before, after) in enumerate(zip(batches, mixed, strict=True)):
        harness.assert_same(after, layer(before, step=step))


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


# Refusals


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bounding_boxes": np.zeros([6, 2, 4])}, "'bounding_boxes'.*take them out"),
        ({"images": np.zeros([5, 8, 3])}, r"images must be a batch \[B, H, W, C\].*\(5, 8, 3\)"),
        ({"images": np.zeros([6, 2, 1, 5, 8, 3])}, r"or views \[B, n, H, W, C\].*\(6, 2, 1, 5"),
        ({"images": np.zeros([6, 3, 5, 8, 3])}, r"must be num_peers=2.*\(6, 3, 5, 8, 3\)"),
        (
            {
                "images": np.zeros([6, 2, 5, 8, 3]),
                "segmentation_masks": np.zeros([6, 5, 8], "int32"),
            },
            r"views.*cannot be mixed with segmentation_masks.*\(6, 2, 5, 8, 3\)",
        ),
        ({"segmentation_masks": np.zeros([5, 8])}, r"segmentation_masks must be.*\(5, 8\)"),
        ({"segmentation_masks": np.zeros([6, 5, 8, 2, 1])}, "segmentation_masks must be"),
        ({"segmentation_masks": np.zeros([6, 3, 4])}, "segmentation_masks"),
        ({"labels": np.eye(1, 10)}, r"as many as images.*\(1, 10\) for images \(6, 5, 8, 3\)"),
        ({"labels": np.zeros(6)}, r"one-hot or soft \[B, K\].*float64 labels of shape \(6,\)"),
        ({"labels": np.zeros([6, 2, 5])}, r"one-hot or soft \[B, K\].*\(6, 2, 5\)"),
        ({"labels": np.eye(6, 10) > 0}, r"one-hot or soft \[B, K\].*bool"),
        ({"labels": np.full([6, 10], "cat")}, r"one-hot or soft \[B, K\].*string"),
    ],
)
def test_batch_that_cannot_be_mixed_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        CutNMix(num_classes=NUM_CLASSES)(photos(labels="one-hot") | changes)


@pytest.mark.parametrize("num_classes", [None, NUM_CLASSES])
def test_labels_of_one_column_are_refused(num_classes):
    batch = photos() | {"labels": np.zeros([6, 1], "int32")}
    with pytest.raises(ValueError, match=r"\[B, 1\] hold one class: drop the last axis.*int32"):
        CutMix(num_classes=num_classes)(batch)


def test_integer_labels_without_num_classes_are_refused():
    with pytest.raises(ValueError, match=r"integer labels need num_classes.*int64"):
        CutMix()(photos(labels="integer"))


def test_labels_with_another_number_of_columns_are_refused():
    with pytest.raises(ValueError, match=r"num_classes=4 columns.*\(6, 10\)"):
        CutMix(num_classes=4)(photos(labels="one-hot"))


def test_one_column_is_accepted_where_there_is_one_class():
    labels = CutMix(num_classes=1)(photos() | {"labels": np.ones([6, 1])})["labels"]
    np.testing.assert_array_equal(labels, np.ones([6, 1]))


@pytest.mark.parametrize("missing", ["images", "labels"])
def test_dictionary_without_images_or_labels_is_refused(missing):
    batch = photos()
    del batch[missing]
    with pytest.raises(ValueError, match=r"needs a dictionary with 'images' and 'labels'.*\['"):
        CutMix(num_classes=NUM_CLASSES)(batch)


def test_pair_is_refused_by_the_layer():
    with pytest.raises(ValueError, match=r"needs a dictionary.*Received: tuple"):
        CutMix(num_classes=NUM_CLASSES)(tuple(photos().values()))


def test_images_of_unknown_rank_are_refused():
    @tf.function(input_signature=[tf.TensorSpec(None), tf.TensorSpec([None], tf.int32)])
    def mix(images, labels):
        return cutnmix(images, labels, step=0, num_classes=NUM_CLASSES)

    with pytest.raises(ValueError, match="the rank known"):
        mix.get_concrete_function()


def test_mixup_refuses_masks_of_class_numbers():
    batch = photos(segmentation_masks=np.zeros([6, 5, 8], "int32"))
    with pytest.raises(ValueError, match=r"MixUp.*int32 class numbers.*use CutMix"):
        MixUp(num_classes=NUM_CLASSES)(batch)


@pytest.mark.parametrize("label", [-1, NUM_CLASSES])
def test_label_out_of_range_is_refused(label):
    batch = photos() | {"labels": np.array([0, 1, 2, 3, 4, label])}
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="num_classes - 1 = 9"):
        CutNMix(num_classes=NUM_CLASSES)(batch)


def test_label_out_of_range_is_refused_in_a_dataset():
    batch = photos() | {"labels": np.full(6, NUM_CLASSES)}
    dataset = tf.data.Dataset.from_tensors(batch)
    with pytest.raises(tf.errors.InvalidArgumentError, match="num_classes - 1 = 9"):
        list(dataset.apply(mix_dataset(CutMix(num_classes=NUM_CLASSES))))


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


# Mixings by name


@pytest.mark.parametrize(
    ("name", "layer"),
    [("cutnmix", CutNMix), ("cutmix", CutMix), ("mixup", MixUp), ("fmix", FMix)],
)
def test_mixing_is_built_by_name(name, layer):
    built = mixing.build(name, alpha=0.5, num_peers=3, regions="spread", num_classes=7, seed=2)
    assert type(built) is layer
    expected = {"alpha": 0.5, "num_classes": 7, "seed": 2}
    expected |= {"num_peers": 3, "regions": "spread"} if layer is CutNMix else {}
    assert built.get_config() | expected == built.get_config()


def test_no_mixing_is_built_for_none():
    assert mixing.build("none", num_peers=3, regions="uniform") is None


def test_unknown_mixing_is_refused_with_a_hint():
    with pytest.raises(InputError, match="unknown --mix 'cutmx': did you mean 'cutmix'"):
        mixing.build("cutmx", num_peers=3, regions="uniform")


# Datasets


@pytest.fixture(scope="module")
def layer():
    return CutNMix(2, num_classes=NUM_CLASSES, seed=5)


@pytest.fixture(scope="module")
def dataset():
    """Two batches of four and one of two."""
    return tf.data.Dataset.from_tensor_slices(photos(10)).batch(4)


def passes(dataset, number):
    return [to_numpy(list(dataset)) for _ in range(number)]


def assert_mixed_in_order(mixed, dataset, layer):
    for step, (after, before) in enumerate(zip(mixed, dataset, strict=True)):
        harness.assert_same(after, layer(before, step=step), rounded=["labels"])


@pytest.mark.parametrize(
    ("jit_compile", "num_parallel_calls"),
    [(False, 1), (False, 8), (True, 8)],
    ids=["graph, serial", "graph, parallel", "xla, parallel"],
)
def test_first_pass_is_mixed_as_the_layer_mixes(dataset, layer, jit_compile, num_parallel_calls):
    mix = mix_dataset(layer, jit_compile=jit_compile, num_parallel_calls=num_parallel_calls)
    assert_mixed_in_order(dataset.apply(mix), dataset, layer)
    assert layer.calls == 0


@pytest.mark.parametrize("layer_class", ONE_VIEW)
def test_any_mixing_mixes_a_dataset(dataset, layer_class):
    layer = layer_class(num_classes=NUM_CLASSES, seed=0)
    mixed = dataset.apply(mix_dataset(layer, jit_compile=False))
    assert_mixed_in_order(mixed, dataset, layer)


@pytest.mark.parametrize("device", ["auto", "/cpu:0"])
def test_device_does_not_change_the_batches(dataset, layer, device):
    if device == "auto" and tf.config.list_physical_devices("GPU"):
        pytest.skip("needs a machine without a GPU")
    mixed = dataset.apply(mix_dataset(layer, device=device, jit_compile=False))
    assert_mixed_in_order(mixed, dataset, layer)


def test_pairs_are_mixed_as_dictionaries_are(dataset, layer):
    pairs = dataset.map(lambda batch: (batch["images"], batch["labels"]))
    mixed = pairs.apply(mix_dataset(layer, jit_compile=False))
    assert isinstance(mixed.element_spec, tuple)
    as_dictionaries = [{"images": images, "labels": labels} for images, labels in mixed]
    assert_mixed_in_order(as_dictionaries, dataset, layer)


def test_each_pass_draws_anew_and_a_fresh_dataset_repeats_them(layer):
    same = tf.data.Dataset.from_tensors(photos()).repeat(3)
    mix = mix_dataset(layer, jit_compile=False)
    drawn = list(itertools.chain(*passes(same.apply(mix), 3)))
    again = itertools.chain(*passes(same.apply(mix), 3))
    assert len({batch["images"].tobytes() for batch in drawn}) == 9
    for one, other in zip(drawn, again, strict=True):
        harness.assert_same(one, other)


@pytest.mark.parametrize("count", [None, 0, 1, 2], ids=["infinite", "empty", "once", "twice"])
def test_cardinality_is_kept(dataset, layer, count):
    repeated = dataset.repeat(count)
    mixed = repeated.apply(mix_dataset(layer, jit_compile=False))
    assert mixed.cardinality() == repeated.cardinality()
    assert len(list(mixed.take(7))) == len(list(repeated.take(7)))


def test_dataset_of_unknown_length_is_mixed(dataset, layer):
    unknown = dataset.filter(lambda batch: True)
    mixed = unknown.apply(mix_dataset(layer, jit_compile=False))
    assert mixed.cardinality() == tf.data.UNKNOWN_CARDINALITY
    assert_mixed_in_order(mixed, dataset, layer)


def test_strings_pass_through_a_compiled_map(layer):
    names = list("abcdef")
    dataset = tf.data.Dataset.from_tensors(photos(name=tf.constant(names)))
    (mixed,) = dataset.apply(mix_dataset(layer))
    assert [name.decode() for name in mixed["name"].numpy()] == names


def test_fit_sees_one_pass_after_the_other(dataset):
    def mixed():
        pairs = dataset.map(lambda batch: (tf.cast(batch["images"], tf.float32), batch["labels"]))
        return pairs.apply(mix_dataset(CutMix(num_classes=NUM_CLASSES, seed=0), jit_compile=False))

    blind = keras.Sequential(
        [keras.layers.Flatten(), keras.layers.Dense(NUM_CLASSES, kernel_initializer="zeros")]
    )
    blind.compile(keras.optimizers.SGD(0.0), loss="mse", jit_compile=False)
    losses = blind.fit(mixed(), epochs=2, verbose=0).history["loss"]
    labels = [np.concatenate([labels for _, labels in batches]) for batches in passes(mixed(), 2)]
    np.testing.assert_allclose(losses, [np.mean(one**2) for one in labels], rtol=1e-5)


# Beside other libraries


def test_keras_cutmix_can_be_replaced():
    batch = photos(labels="one-hot") | {"labels": make_labels(6, "one-hot").astype("float32")}
    ours, theirs = CutMix(seed=0)(batch), keras.layers.CutMix(seed=0)(batch, training=True)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].shape == theirs[name].shape
    assert ours["labels"].dtype == theirs["labels"].dtype


def test_layer_follows_a_keras_cv_layer_in_a_dataset():
    images, one_hot = index_images(6, 16, 24, "float32") + 1, np.eye(6, dtype="float32")
    masked = keras_cv.layers.GridMask(ratio_factor=(0.5, 0.5), fill_mode="constant", seed=0)
    layer = CutNMix(2, seed=0)
    dataset = tf.data.Dataset.from_tensors({"images": images, "labels": one_hot})
    (mixed,) = dataset.map(lambda batch: layer(masked(batch, training=True), step=0))
    assert mixed["images"].shape == (6, 2, 16, 24, 1)
    for views, label in zip(mixed["images"].numpy(), mixed["labels"].numpy(), strict=True):
        assert {0} <= set(views.ravel()) <= {0, *(np.flatnonzero(label) + 1)}
