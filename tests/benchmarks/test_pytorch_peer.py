"""The PyTorch program of the benchmarks does the work of our train step, number for number."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_cutnmix import Method, OnlineDistiller, build_network

torch = pytest.importorskip("torch")

from benchmarks import pytorch  # noqa: E402

pytestmark = pytest.mark.bench

ROOT = pathlib.Path(__file__).parents[2]
CLASSES = 10
BATCH = 16


@pytest.fixture(autouse=True)
def _seeded_torch() -> None:
    torch.manual_seed(0)


def pixels(seed: int, batch: int = BATCH) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (batch, 32, 32, 3), "uint8")


def soft_labels(seed: int, batch: int = BATCH) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet([0.5] * CLASSES, batch).astype("float32")


def to_torch(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images.copy()).permute(0, 3, 1, 2)


def blocks_of(network: torch.nn.Module) -> list:
    """Convolutions with their BatchNorm, in the order in which images pass them."""
    return [m for m in network.modules() if isinstance(m, pytorch.Convolution)]


def torch_state(network: torch.nn.Module) -> list[np.ndarray]:
    """Every weight and statistic, laid out and ordered as in our network."""
    state = []
    for block in blocks_of(network):
        norm = block.normalise
        kernel = block.convolution.weight.permute(2, 3, 1, 0)
        state += [kernel, norm.weight, norm.bias, norm.running_mean, norm.running_var]
    state += [network.head.weight.T, network.head.bias]
    return [tensor.detach().numpy().copy() for tensor in state]


def keras_state(network: keras.Model) -> list[np.ndarray]:
    """Likewise; the constants of the normalisation of pixels are left out."""
    layers = [layer for layer in network.layers if layer.name != "normalisation"]
    convolutions = [x for x in layers if isinstance(x, keras.layers.Conv2D)]
    norms = [x for x in layers if isinstance(x, keras.layers.BatchNormalization)]
    pairs = zip(convolutions, norms, strict=True)
    parts = [layer for pair in pairs for layer in pair] + [network.get_layer("logits")]
    return [weight for layer in parts for weight in layer.get_weights()]


def keep_biased_variances(network: torch.nn.Module) -> None:
    """Make BatchNorm track the variance that Keras tracks, the only thing in which they differ."""

    def before(norm, inputs):
        norm.earlier = norm.running_var.clone()

    def after(norm, inputs, output):
        if norm.training:
            count = inputs[0].numel() / norm.num_features
            kept = (1 - norm.momentum) * norm.earlier
            norm.running_var.data.copy_(kept + (norm.running_var - kept) * (count - 1) / count)

    for block in blocks_of(network):
        block.normalise.register_forward_pre_hook(before)
        block.normalise.register_forward_hook(after)


def copy_weights(network: keras.Model, to: torch.nn.Module) -> None:
    state = iter(keras_state(network))
    with torch.no_grad():
        for block in blocks_of(to):
            norm = block.normalise
            block.convolution.weight.copy_(torch.tensor(next(state)).permute(3, 2, 0, 1))
            for target in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                target.copy_(torch.tensor(next(state)))
        to.head.weight.copy_(torch.tensor(next(state)).T)
        to.head.bias.copy_(torch.tensor(next(state)))


def assert_same_state(ours: keras.Model, theirs: torch.nn.Module) -> None:
    for expected, actual in zip(keras_state(ours), torch_state(theirs), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def disturb(network: keras.Model, seed: int) -> None:
    """Statistics and offsets that are not those of a fresh network."""
    generator = np.random.default_rng(seed)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([generator.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])


@pytest.mark.parametrize("training", [False, True])
def test_the_network_is_ours(training):
    """Odd sides are padded as ours, too."""
    ours = build_network("resnet14", (15, 13, 3), CLASSES)
    disturb(ours, 3)
    theirs = pytorch.ResNet(14, CLASSES).train(training)
    copy_weights(ours, theirs)
    keep_biased_variances(theirs)
    images = pixels(1)[:, :15, :13]
    expected = ours(images, training=training)
    features, logits = theirs(to_torch(images))
    np.testing.assert_allclose(features.detach(), expected["features"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(logits.detach(), expected["logits"], rtol=1e-4, atol=1e-4)
    assert_same_state(ours, theirs)


@pytest.fixture(scope="module", params=["independent", "cutnmix"])
def trained(request) -> tuple[OnlineDistiller, pytorch.Distiller, list[tuple[dict, dict]]]:
    """Three peers of ours and of theirs after three steps on one stream; the terms of each step."""

    class Given(keras.layers.Layer):
        """Stands for the mixing: views come as they are."""

        def call(self, batch, training=True, step=None):
            return batch

    peers = [build_network("resnet8", (32, 32, 3), CLASSES) for _ in range(3)]
    ours = OnlineDistiller(
        peers, Given(), Method(request.param, ramp_steps=4), momentum=0.6, weight_decay=0.1
    )
    ours.compile(keras.optimizers.SGD(0.02, 0.9, nesterov=True), jit_compile=False)
    theirs = pytorch.Distiller(
        8,
        3,
        CLASSES,
        method=request.param,
        learning_rate=0.02,
        weight_decay=0.1,
        average_momentum=0.6,
        ramp_steps=4,
    )
    for network, peer, average in zip(peers, theirs.peers, theirs.averages, strict=True):
        copy_weights(network, peer)
        copy_weights(network, average)
        keep_biased_variances(peer)
        keep_biased_variances(average)
    for part in ours.parts:
        for adapter, to in zip(part.adapters, theirs.adapters, strict=True):
            to.weight.data.copy_(torch.tensor(np.asarray(adapter.kernel)).T)

    step, terms = tf.function(ours.train_step), []
    for number in range(3):
        views = np.stack([pixels(10 * number + k) for k in range(3)], axis=1)
        labels = soft_labels(number)
        for metric in ours.step_metrics:
            metric.reset_state()
        expected = {name: float(value) for name, value in step((views, labels)).items()}
        their_views = [to_torch(view) for view in np.moveaxis(views, 1, 0)]
        actual = theirs.train_on_views(their_views, torch.from_numpy(labels))
        terms.append((expected, {name: value.item() for name, value in actual.items()}))
    return ours, theirs, terms


@pytest.mark.long
def test_terms_of_three_steps_are_ours(trained):
    _, theirs, terms = trained
    names = {"independent": [], "cutnmix": ["teacher", "feature"]}[theirs.method]
    for expected, actual in terms:
        expected["loss"] -= expected.pop("weight_decay")
        assert set(actual) == {"loss", "cross_entropy", *names}
        for name, value in actual.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.long
def test_weights_and_averages_after_three_steps_are_ours(trained):
    ours, theirs, _ = trained
    for network, peer in zip(ours.peers, theirs.peers, strict=True):
        assert_same_state(network, peer)
    for network, average in zip(ours.averages, theirs.averages, strict=True):
        assert_same_state(network, average)
    adapters = [adapter for part in ours.parts for adapter in part.adapters]
    for adapter, their in zip(adapters, theirs.adapters, strict=True):
        np.testing.assert_allclose(their.weight.detach().T, adapter.kernel, rtol=1e-4, atol=1e-4)
    for peer, average in zip(theirs.peers, theirs.averages, strict=True):
        assert not np.allclose(peer.head.weight.detach(), average.head.weight, atol=1e-3)
        assert all(not weight.requires_grad for weight in average.parameters())


def coordinates(batch: int = 64, height: int = 32, width: int = 24) -> torch.Tensor:
    """Images whose channels say: which image, row, column."""
    image, row, column = np.meshgrid(range(batch), range(height), range(width), indexing="ij")
    return to_torch(np.stack([image, row, column], axis=-1).astype("uint8"))


@pytest.mark.parametrize("alpha", [0.3, 4.0])
def test_views_paste_one_whole_box_of_the_partner(alpha):
    images, labels = coordinates(), torch.eye(64)
    views, mixed = pytorch.cutnmix(images, labels, num_peers=3, alpha=alpha)
    corners = []
    for view in views:
        assert view.dtype == torch.uint8
        assert view.is_contiguous(memory_format=torch.channels_last)
        np.testing.assert_array_equal(view[:, 1:], images[:, 1:])
        pasted = (view[:, 0] != images[:, 0]).numpy()
        for sample, inside in enumerate(pasted):
            rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
            assert inside.sum() == len(rows) * len(columns)
            if inside.any():
                assert np.ptp(rows) + 1 == len(rows)
                assert np.ptp(columns) + 1 == len(columns)
                corners.append((sample, rows[0], columns[0]))
                (partner,) = np.unique(view[sample, 0].numpy()[inside])
                part = inside.mean()
                np.testing.assert_allclose(mixed[sample, partner], part, atol=1e-6)
                np.testing.assert_allclose(mixed[sample, sample], 1 - part, atol=1e-6)
    assert len(set(corners)) > len(corners) / 2
    np.testing.assert_allclose(mixed.sum(0), 1, atol=1)
    np.testing.assert_allclose(mixed.sum(1), 1, atol=1e-6)


@pytest.mark.long
def test_the_program_writes_a_row_for_each_configuration(tmp_path):
    out = tmp_path / "times.json"
    command = [sys.executable, "-m", "benchmarks.gpu.run_pytorch", f"--out={out}", "--depths=8,9"]
    settings = ["--batches=4", "--precisions=float32", "--programs=plain,cutnmix"]
    tiny = ["--variants=eager", "--steps=1", "--repeats=2", "--num_peers=3"]
    subprocess.run([*command, *settings, *tiny], cwd=ROOT, check=True, capture_output=True)
    report = json.loads(out.read_text())
    assert report["torch"] == torch.__version__
    assert report["float32_matmul_precision"] == "high"
    assert [(r["depth"], r["program"], r["num_peers"]) for r in report["rows"]] == [
        (8, "plain", 1),
        (8, "cutnmix", 3),
        (9, "plain", 1),
        (9, "cutnmix", 3),
    ]
    for row in report["rows"][:2]:
        assert row["images_per_second"] == pytest.approx(4 / np.median(row["seconds_per_step"]))
        assert len(row["seconds_per_step"]) == 2
        assert np.isfinite(row["loss"])
    for row in report["rows"][2:]:
        assert row["error"].startswith("ValueError: depth must be 6n+2")
