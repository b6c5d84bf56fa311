"""A bundle trains in JAX as the model does in TensorFlow; packs; what cannot be bundled."""

import dataclasses
import io
import json
import pathlib
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.gpu import as_run, bundles, pack, programs, write_bundle
from benchmarks.gpu.write_bundle import Settings
from tests.tiny_peers import CLASSES, tiny_peer
from tf_cutnmix import Config, CropAndFlip, CutNMix, Method, OnlineDistiller, command, data
from tf_cutnmix.errors import InputError
from tf_cutnmix.reporting import runs as reports
from tf_cutnmix.runs import build, scores

# Both need what the package does not: jax, and Pillow.
jax = pytest.importorskip("jax")
run_bundle = pytest.importorskip("benchmarks.gpu.run_bundle")
Image = pytest.importorskip("PIL.Image")

pytestmark = pytest.mark.bench

BATCH = 16
RUNNER = pathlib.Path(run_bundle.__file__).parent
COUNT = 64
SPLITS = {"train": f"train[:{COUNT}]", "validation": "train[64:84]", "test": "test[:30]"}
Batches = list[tuple[np.ndarray, np.ndarray]]


def settings_of(folder: pathlib.Path, **changes: object) -> Settings:
    """Two epochs of four steps, two steps a call, of two ResNet-8 on 64 digits."""
    settings = {
        "out": str(folder),
        "train_split": f"train[:{COUNT}]",
        "validation_fraction": 0.0,
        "image_size": 16,
        "batch_size": BATCH,
        "epochs": 2,
        "steps_per_call": 2,
        "eval_batch_size": 20,
        "further_seeds": "3",
        # So low that ten steps do not blow the compilers' rounding up.
        "learning_rate": 0.002,
    }
    return Settings(**(settings | changes))


@pytest.fixture(scope="module", autouse=True)
def _programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """JAX compiles a program once for this process and those that it starts."""
    path = str(tmp_path_factory.mktemp("programs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", path)
        before = jax.config.jax_compilation_cache_dir
        jax.config.update("jax_compilation_cache_dir", path)
        yield
        jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The bundle of `settings_of`."""
    path = tmp_path_factory.mktemp("bundles") / "digits"
    write_bundle.main(settings_of(path))
    return path


@pytest.fixture(scope="module")
def bundle(folder: pathlib.Path) -> run_bundle.Bundle:
    """It is compiled once; what a test leaves in its state is no business of another's."""
    return run_bundle.Bundle(folder)


@pytest.fixture(scope="module")
def digits() -> dict[str, data.Images]:
    return {name: data.load("digits", split, image_size=16) for name, split in SPLITS.items()}


def png(image: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    return content.getvalue()


def encoded(images: data.Images, split: str) -> pack.Encoded:
    return pack.Encoded([png(image) for image in images.pixels], images.labels.tolist(), split)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, digits: dict) -> pathlib.Path:
    path = tmp_path_factory.mktemp("packs") / "digits.npz"
    splits = {name: encoded(images, SPLITS[name]) for name, images in digits.items()}
    pack.write(path, splits, "0123456789")
    return path


def tiny_distiller(method: str) -> OnlineDistiller:
    """Two tiny peers whose learning rate falls after three steps, always with the same weights."""
    random.seed(0)
    model = OnlineDistiller(
        [tiny_peer(), tiny_peer(7)],
        CutNMix(2, num_classes=CLASSES, seed=1),
        Method(method, batch_size=4),
        augment=CropAndFlip(seed=2),
        momentum=0.9,
        weight_decay=1e-3,
    )
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.05, 0.005])
    model.compile(keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True))
    model.optimizer.build(model.trainable_variables)
    bundles.seeded(model, 1)
    return model


def random_batches(count: int, size: int, side: int) -> Batches:
    generator = np.random.default_rng(3)
    return [
        (
            generator.integers(0, 256, (size, side, side, 3)).astype("uint8"),
            generator.integers(0, CLASSES, size).astype("int32"),
        )
        for _ in range(count)
    ]


def train_in_tensorflow(model: OnlineDistiller, batches: Batches) -> list[dict[str, float]]:
    """The loss and its terms at each step of the model's own step, compiled by TensorFlow."""

    @tf.function(jit_compile=True)
    def step(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        return model.train_step((images, labels))

    losses = []
    for images, labels in batches:
        model.reset_metrics()
        losses.append({k: float(v) for k, v in step(images, labels).items()})
    return losses


def train_in_jax(
    bundle: run_bundle.Bundle, batches: Batches, steps_per_call: int
) -> list[dict[str, float]]:
    outputs = []
    for start in range(0, len(batches), steps_per_call):
        chunk = batches[start : start + steps_per_call]
        images, labels = (np.concatenate(part) for part in zip(*chunk, strict=True))
        found = bundle.call("train_step", images, labels)
        outputs.append({k: v.item() for k, v in found.items()})
    return outputs


def assert_equal_losses(
    found: list[dict[str, float]], expected: list[dict[str, float]], steps_per_call: int
) -> None:
    """A call gives the means of its steps."""
    assert {"loss", "cross_entropy"} <= expected[0].keys() <= found[0].keys()
    for call, outputs in enumerate(found):
        steps = expected[call * steps_per_call : (call + 1) * steps_per_call]
        means = {name: np.mean([step[name] for step in steps]) for name in steps[0]}
        assert {k: outputs[k] for k in means} == pytest.approx(means, rel=1e-4, abs=1e-4)


def assert_equal_variables(bundle: run_bundle.Bundle, model: OnlineDistiller) -> None:
    """Every variable that a step changes; they are known by their place in the model."""
    known = [variable for _, variable in bundles._variables(model).values()]
    metrics = {id(variable.value) for metric in model.metrics for variable in metric.variables}
    for key in set(bundle.index["programs"]["train_step"]["updates"].values()):
        variable = known[int(key.split(":")[0])]
        if id(variable) not in metrics:
            np.testing.assert_allclose(bundle.state[key], variable.numpy(), 1e-4, 1e-4, err_msg=key)
    assert len(known) - len(metrics) > 2 * len(model.trainable_variables)


# A bundle against TensorFlow


def test_two_resnets_train_in_jax_as_in_tensorflow(
    bundle: run_bundle.Bundle, folder: pathlib.Path, digits: dict
) -> None:
    settings = settings_of(folder)
    random.seed(settings.seed)
    model = build.build_model(write_bundle.plan_of(settings, digits["train"]))
    bundles.seeded(model, settings.seed)
    assert_equal_variables(bundle, model)
    batches = random_batches(10, BATCH, 16)
    expected = train_in_tensorflow(model, batches)
    found = train_in_jax(bundle, batches, steps_per_call=2)
    assert_equal_losses(found, expected, steps_per_call=2)
    assert_equal_variables(bundle, model)
    assert bundle.step == 10
    images = data.Images(*random_batches(1, 50, 16)[0], tuple("0123456789"))
    expected = figures_of(model, images)
    assert run_bundle.evaluate(bundle, images) == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert len(set(expected.values())) > 6


def figures_of(model: OnlineDistiller, images: data.Images) -> dict[str, float]:
    """What a run's `result.json` holds of a split."""
    each = {name: p.numpy() for name, p in model.predict_each(images.pixels).items()}
    figures = scores.diversity(np.stack([each["peer1"], each["peer2"]]))
    for name, prediction in each.items():
        found = scores.scores(prediction, images.labels)
        figures |= {f"{name}_{kind}": found[kind] for kind in ("accuracy", "calibration_error")}
        if name == "teacher":
            figures["loss"] = found["negative_log_likelihood"]
    return figures


def test_one_program_trains_runs_of_further_seeds_as_tensorflow_does(
    bundle: run_bundle.Bundle, folder: pathlib.Path, digits: dict
) -> None:
    settings = settings_of(folder, seed=3)
    keras.utils.clear_session()
    random.seed(3)
    model = build.build_model(write_bundle.plan_of(settings, digits["train"]))
    bundles.seeded(model, 3)
    bundle.load(folder / "state_3.npz")
    try:
        assert (bundle.seed, bundle.step) == (3, 0)
        assert_equal_variables(bundle, model)
        batches = random_batches(4, BATCH, 16)
        expected = train_in_tensorflow(model, batches)
        assert_equal_losses(train_in_jax(bundle, batches, 2), expected, steps_per_call=2)
    finally:
        bundle.load(folder / "state.npz")
    assert bundle.seed == 0


def test_bundles_keep_the_precision(tmp_path: pathlib.Path) -> None:
    settings = settings_of(
        tmp_path / "bundle", precision="mixed_bfloat16", num_peers=1, further_seeds="", mix="none"
    )
    write_bundle.main(settings)
    text = (tmp_path / "bundle" / "train_step.mlir").read_text()
    kinds = re.findall(r"stablehlo.convolution.*-> tensor<[0-9x]*x(\w+)>", text)
    assert set(kinds) == {"bf16"}
    # JAX's compiler for GPUs refuses TensorFlow's copies.
    assert "mhlo.copy" not in text


@pytest.mark.parametrize(("method", "steps_per_call"), [("dml", 5), ("dlb", 1)])
def test_other_methods_train_in_jax_as_in_tensorflow(
    method: str, steps_per_call: int, tmp_path: pathlib.Path
) -> None:
    model = tiny_distiller(method)
    program = programs.train_program(model, (8, 8, 3), 4, steps=steps_per_call)
    bundles.write(tmp_path, model, {"train_step": program}, facts={})
    bundle = run_bundle.Bundle(tmp_path)
    batches = random_batches(10, 4, 8)
    expected = train_in_tensorflow(model, batches)
    found = train_in_jax(bundle, batches, steps_per_call)
    assert_equal_losses(found, expected, steps_per_call)
    assert_equal_variables(bundle, model)
    rates = [outputs["learning_rate"] for outputs in found]
    firsts = range(0, 10, steps_per_call)
    assert rates == pytest.approx([0.05 if step <= 2 else 0.005 for step in firsts])


def test_a_step_that_is_not_finite_is_reported(
    bundle: run_bundle.Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {name: jax.numpy.array(value) for name, value in bundle.state.items()}
    monkeypatch.setattr(
        bundle,
        "state",
        {k: jax.numpy.nan * v if k.endswith("kernel") else v for k, v in state.items()},
    )
    before = bundle.step
    outputs = bundle.call("train_step", *random_batches(1, 2 * BATCH, 16)[0])
    assert int(outputs["failed_step"]) == before
    assert bundle.step == before


# What cannot be bundled


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out": ""}, "--out is missing"),
        ({"augment": "gridmask"}, "XLA cannot compile --augment=gridmask"),
        ({"method": "kd"}, "XLA cannot compile --method=kd"),
        ({"further_seeds": "1,x"}, "--further_seeds=1,x: write whole numbers"),
        ({"further_seeds": "4294967296"}, "write whole numbers"),
        ({"method": "kdcl_general"}, "held-out images outside"),
        ({"steps_per_call": 3}, "does not divide the 4 steps of an epoch: pass 2"),
        ({"steps_per_call": 8}, "does not divide the 4 steps of an epoch: pass 4"),
        ({"batch_size": 65}, "larger than the 64 training images"),
    ],
    ids=str,
)
def test_what_cannot_be_bundled_is_refused(
    changes: dict, message: str, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(InputError, match=message):
        write_bundle.main(settings_of(tmp_path / "bundle", **changes))
    assert not (tmp_path / "bundle").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(InputError, match="is no empty folder"):
        write_bundle.main(settings_of(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


# The runner


def run(cwd: pathlib.Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The runner, copied alone into a folder."""
    shutil.copytree(RUNNER, cwd / "run_bundle", dirs_exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "run_bundle", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_copied_runner_trains_and_goes_on_from_a_saved_state_as_if_never_stopped(
    folder: pathlib.Path, packed: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    whole = run(tmp_path, folder, packed, "--save=whole.npz", "--out=whole.json")
    assert whole.returncode == 0, whole.stderr
    assert run(tmp_path, folder, packed, "--steps=6", "--save=part.npz").returncode == 0
    rest = run(tmp_path, folder, packed, "--state=part.npz", "--save=rest.npz", "--out=rest.json")
    assert rest.returncode == 0, rest.stderr
    history = json.loads((tmp_path / "whole.json").read_text())
    head, (first, last) = history["head"], history["epochs"]
    assert head["versions"].keys() >= {"jax", "tensorflow"}
    assert head["costs"]["train_step"]["flops"] > 0
    assert (first["step"], last["step"]) == (4, 8)
    assert "test" not in first
    networks = ("teacher", "ensemble", "average1", "average2", "peer1", "peer2")
    kinds = ("accuracy", "calibration_error")
    assert last["test"].keys() == {
        *(f"{network}_{kind}" for network in networks for kind in kinds),
        *("loss", "disagreement", "distance"),
    }
    as_run.write(tmp_path / "runs" / "gpu", history, every=2)
    (made,) = reports.find([str(tmp_path / "runs")])
    read = reports.read(made, lambda path: command.parse(Config, [f"--flagfile={path}"]))
    # The pack knows which images they were, the bundle which to train on alone.
    named = {f"{name}_split": split for name, split in SPLITS.items()}
    assert read.config == Config(
        **{f: head["flags"][f] for f in head["flags"] if hasattr(Config, f)} | named
    )
    assert head["flags"]["validation_split"] == "auto"
    assert read.figures["last_teacher_accuracy"] == last["test"]["teacher_accuracy"]
    assert read.figures["images_per_second"] > 0
    assert list(read.curves.index) == [2]
    assert read.result["parameters"]["peer1"] > 1000
    assert first["train"]["loss"] > 0
    assert last["images_per_second"] > 0
    assert last["learning_rate"] == pytest.approx(0.00002)
    (after,) = json.loads((tmp_path / "rest.json").read_text())["epochs"]
    assert (after["epoch"], after["step"], after["test"]) == (2, 8, last["test"])
    with np.load(tmp_path / "whole.npz") as expected, np.load(tmp_path / "rest.npz") as found:
        for name in expected.files:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_the_runner_takes_the_batches_of_a_run_in_their_order(digits: dict) -> None:
    index = {
        "flags": {"seed": 5},
        "train_images": COUNT,
        "batch_size": 12,
        "steps_per_call": 1,
        "steps_per_epoch": 5,
    }
    expected = data.shuffled_batches(digits["train"], 12, seed=5, first_epoch=3)
    order = run_bundle.training._order(index, 3, 5, device=None)
    for call, (images, labels) in enumerate(expected.take(5)):
        found = run_bundle.training._take(
            digits["train"].pixels, digits["train"].labels, order, call
        )
        np.testing.assert_array_equal(found[0], images)
        np.testing.assert_array_equal(found[1], labels)


# Packs


def test_a_pack_of_png_holds_the_images_bit_for_bit(packed: pathlib.Path, digits: dict) -> None:
    for name, images in run_bundle.unpack(packed).items():
        np.testing.assert_array_equal(images.pixels, digits[name].pixels)
        np.testing.assert_array_equal(images.labels, digits[name].labels)


def test_a_pack_of_cifar10_decodes_as_the_package_reads_it(
    cifar10_dir: str, tmp_path: pathlib.Path
) -> None:
    settings = pack.Settings((str(tmp_path / "x.npz"),), "cifar10", cifar10_dir, "train[:40]")
    pack.main(dataclasses.replace(settings, test_split="test[:20]"))
    for name, images in run_bundle.unpack(tmp_path / "x.npz").items():
        expected = data.load("cifar10", f"{name}[:{len(images.labels)}]", data_dir=cifar10_dir)
        np.testing.assert_array_equal(images.labels, expected.labels)
        # Two decoders of JPEG round in their own ways.
        difference = np.abs(images.pixels.astype(int) - expected.pixels)
        assert difference.mean() < 2
        assert difference.max() < 40
