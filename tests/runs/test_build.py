"""Every setting reaches the model and its optimizer."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.processes import python
from tests.runs.short_runs import ALONE, SMALL, STEPS_PER_EPOCH, model_of, plan_of, run
from tf_cutnmix.errors import InputError
from tf_cutnmix.mixing import augment, layers
from tf_cutnmix.networks import sharing
from tf_cutnmix.runs import build, cost, display, optimizer
from tf_cutnmix.runs.config import Config, with_defaults

STEPS = 8 * STEPS_PER_EPOCH
SCHEDULES = {
    "constant": lambda step: 1.0,
    "cosine": lambda step: (1 + math.cos(math.pi * step / STEPS)) / 2,
    "step": lambda step: 1.0 if step < STEPS // 2 else 0.1 if step < STEPS * 3 // 4 else 0.01,
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_learning_rate_follows_its_schedule_and_begins_anew_in_a_longer_run(
    schedule, training_images
):
    settings = {"learning_rate": 0.3, "schedule": schedule}
    short = model_of(training_images, ALONE, **settings, epochs=8)
    longer = model_of(training_images, ALONE, **settings, epochs=16, restarts="8")
    for model, steps in ((short, STEPS), (longer, 2 * STEPS)):
        rates = []
        for step in range(steps):
            model.optimizer.iterations.assign(step)
            rates.append(float(model.optimizer.learning_rate))
        expected = [0.3 * SCHEDULES[schedule](step % STEPS) for step in range(steps)]
        np.testing.assert_allclose(rates, expected, rtol=1e-5)
    assert (longer.momentum, longer.method) == (short.momentum, short.method)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_first_steps_of_each_schedule_rise_to_it(schedule, training_images):
    settings = {"learning_rate": 0.3, "schedule": schedule, "epochs": 16, "restarts": "8"}
    model = model_of(training_images, ALONE, **settings, warmup=0.25)
    rates = []
    for step in range(2 * STEPS):
        model.optimizer.iterations.assign(step)
        rates.append(float(model.optimizer.learning_rate))
    # A rate that never fell has nowhere to rise from again.
    begun = np.arange(2 * STEPS)
    risen = 1 + (begun if schedule == "constant" else begun % STEPS)
    whole = [0.3 * SCHEDULES[schedule](step % STEPS) for step in range(2 * STEPS)]
    expected = [rate * min(1, r / (STEPS // 4)) for rate, r in zip(whole, risen, strict=True)]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def sgd(gradients, rates):
    value, velocity = np.ones((3, 2)), 0.0
    for gradient, rate in zip(gradients, rates, strict=True):
        velocity = 0.5 * velocity - rate * gradient
        value = value + 0.5 * velocity - rate * gradient
    return value


def adamw(gradients, rates, decay=0.3):
    """Loshchilov and Hutter 2019, algorithm 2, with Keras' epsilon."""
    value, mean, square = np.ones((3, 2)), 0.0, 0.0
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        size = np.sqrt(square / (1 - 0.999**step)) + 1e-7
        value = value - rate * (mean / (1 - 0.9**step) / size + decay * value)
    return value


@pytest.mark.parametrize("compiled", [None, False, True])
@pytest.mark.parametrize(
    ("settings", "rule"),
    [({"momentum": 0.5}, sgd), ({"optimizer": "adamw", "weight_decay": 0.3}, adamw)],
)
def test_what_is_below_the_classifiers_learns_at_its_own_rate_on_the_same_schedule(
    settings, rule, compiled
):
    own = {"schedule": "step", "learning_rate": 0.4, "learning_rate_backbone": 0.1, "epochs": 8}
    config = with_defaults(Config(**settings, **own, clip_norm=2.0))
    gradients = np.random.default_rng(0).normal(size=(8, 3, 2)).astype("float32")
    below, unused, above = weights = [keras.Variable(np.ones((3, 2))) for _ in range(3)]
    built = optimizer.build(config, 1, weights, [below, unused])
    built.build(weights)
    apply = lambda gradient: built.apply([gradient, None, gradient], weights)  # noqa: E731
    step = apply if compiled is None else tf.function(apply, jit_compile=compiled)
    for gradient in gradients:
        step(tf.constant(gradient))
    # Both weights' gradients count, and as they are: what learns slowly is not what is clipped.
    norms = np.sqrt(2 * np.sum(gradients**2, axis=(1, 2), keepdims=True))
    assert (norms > 2).any()
    clipped = gradients * np.minimum(1, 2 / norms)
    parts = np.array([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    np.testing.assert_allclose(below, rule(clipped, 0.1 * parts), rtol=1e-4)
    np.testing.assert_allclose(above, rule(clipped, 0.4 * parts), rtol=1e-4)
    np.testing.assert_array_equal(unused, 1)  # as the loss does not depend on it


def test_adamw_decays_kernels_and_matrices_alone_and_sgd_the_loss(training_images):
    settings = {"optimizer": "adamw", "learning_rate": 0.1, "weight_decay": 0.5}
    model = model_of(training_images, **settings, schedule="constant")
    assert "weight_decay" not in model.term_names
    weights = model.trainable_variables
    before = [weight.numpy() for weight in weights]
    model.optimizer.apply([tf.zeros_like(weight) for weight in weights], weights)
    assert {len(array.shape) for array in before} == {1, 2, 4}
    for weight, old in zip(weights, before, strict=True):
        kept = 1.0 if old.ndim == 1 else 1 - 0.1 * 0.5
        np.testing.assert_allclose(weight, kept * old, rtol=1e-6)
    assert "weight_decay" in model_of(training_images).term_names


def test_networks_that_bring_weights_are_fine_tuned_and_the_run_begins_with_how(training_images):
    config = Config(**{**SMALL, "learning_rate": 0.02, "weights_from": "own"})
    build.check_names(config)
    plan = plan_of(config, training_images)
    model = build.build_model(plan)
    assert isinstance(model.optimizer, optimizer.SlowAdamW)
    assert model.optimizer.factor * 0.02 == pytest.approx(plan.config.learning_rate_backbone)
    told = display.overview(plan, model).splitlines()[-1].split()
    assert told[0] == "fine-tuning"
    assert {"--optimizer=adamw", "--learning_rate=0.02", "--epochs=3"} < set(told[1:])
    assert set(told[1:]) < set(plan.config.flagfile().splitlines())
    with pytest.raises(InputError, match=r"--weights_from=own .* --arch=resnet8 is none"):
        build.check_names(Config(weights_from="own"))


def test_images_are_normalised_by_the_statistics_of_the_training_images(training_images):
    random = np.random.default_rng(0)
    pixels = random.integers(0, [50, 100, 250], (1234, 4, 4, 3)).astype(np.uint8)
    images = training_images._replace(pixels=pixels, labels=np.zeros(1234, np.int32))
    layer = model_of(images, ALONE, arch="resnet8").peers[0].get_layer("normalisation")
    np.testing.assert_allclose(np.squeeze(layer.mean), pixels.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(np.squeeze(layer.variance), pixels.var((0, 1, 2)), rtol=1e-5)


def test_every_setting_reaches_the_model(training_images):
    settings = {
        "num_peers": 3,
        "temperature": 2.0,
        "weights": "teacher=0.5,feature=0.25",
        "share": "stage1",
        "views": "own",
        "ramp": 0.75,
        "teacher_memory": 0.1,
        "weight_decay": 1e-3,
        "momentum": 0.8,
        "crop": 0.3,
        "flip": "on",
        "alpha": 0.7,
        "ratio_per": "batch",
        "regions": "spread",
        "mix_probability": 0.5,
        "mix_until": 0.75,
        "ensemble_members": "others",
        "ensemble_view": "clean",
        "seed": 5,
        "epochs": 10,
    }
    model = model_of(training_images, **settings)
    steps = 10 * STEPS_PER_EPOCH
    assert model.method.get_config() == {
        "name": "cutnmix",
        "weights": {"teacher": 0.5, "feature": 0.25},
        "temperature": 2.0,
        "ramp_steps": steps * 3 // 4,
        "fit": "",
        "options": {"ensemble_members": "others", "ensemble_view": "clean"},
        "batch_size": 32,
        "teacher": "",
        "class_names": list("0123456789"),
        "class_weights": [],
        "unlabelled": False,
        "unlabelled_ramp_steps": 4,
    }
    assert sharing.shared_stage(model.peers) == "stage1"
    assert model.own_views
    assert model.momentum == pytest.approx(1 - 1 / (0.1 * steps))
    assert model.weight_decay == 1e-3
    assert model.optimizer.get_config()["momentum"] == 0.8
    assert model.optimizer.get_config()["nesterov"]
    wanted = (
        augment.CropAndFlip(0.3, True, seed=5),
        layers.build(
            "cutnmix",
            num_peers=3,
            alpha=0.7,
            ratio_per="batch",
            regions="spread",
            num_classes=10,
            seed=5,
            probability=0.5,
            until_step=steps * 3 // 4,
        ),
    )
    for layer, like in zip((model.augment, model.mixing), wanted, strict=True):
        assert {**layer.get_config(), "name": ""} == {**like.get_config(), "name": ""}


@pytest.mark.parametrize(
    ("settings", "stage", "own_views", "mean_gradient"),
    [
        ({"method": "dml"}, None, False, False),
        ({"method": "cl_ilr"}, "stage1", False, True),
        ({"method": "pcl"}, "stage1", True, False),
        ({"method": "pcl", "views": "shared", "share": "stem"}, "stem", False, False),
        ({"method": "independent", "num_peers": 1, "share": "stage1"}, None, False, False),
    ],
)
def test_peers_share_stages_and_views_as_the_paper_has_it_unless_set_otherwise(
    settings, stage, own_views, mean_gradient, training_images
):
    model = model_of(training_images, **settings)
    assert sharing.shared_stage(model.peers) == stage
    assert model.own_views == own_views
    kinds = {type(layer) for layer in model.peers[0].layers}
    assert (sharing.MeanGradient in kinds) == mean_gradient


def test_a_method_that_shares_refuses_a_network_without_stages(training_images):
    with pytest.raises(InputError, match=r"--method=pcl needs peers that share .* names 0"):
        model_of(training_images, arch="tiny_networks:without_stages", method="pcl")


@pytest.mark.parametrize(
    ("dataset", "flip", "mirrored"),
    [("digits", "auto", False), ("digits", "on", True), ("cifar10", "auto", True)],
)
def test_characters_are_mirrored_only_if_asked(dataset, flip, mirrored, training_images):
    model = model_of(training_images, ALONE, dataset=dataset, flip=flip)
    assert model.augment.flip is mirrored


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    ("base", "settings", "hint"),
    [
        (
            {**SMALL, "teacher_memory": 0.01},
            {},
            "short run: 12 steps; the teacher remembers 1 (--teacher_memory), distillation grows "
            "over 6 (--ramp); --batch_size=8 would give 54",
        ),
        (
            ALONE,
            {"epochs": 124, "teacher_memory": 0.1},
            "short run: 496 steps; the teacher remembers 50 (--teacher_memory); --batch_size=16 "
            "would give 1116",
        ),
        (ALONE, {"epochs": 125}, None),
    ],
)
def test_a_short_run_begins_with_what_its_parts_come_to(base, settings, hint, tmp_path, capsys):
    run(tmp_path, base, steps=1, **settings)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "short run" in line] == ([hint] if hint else [])
    bfloat16 = [line for line in lines if "--precision=mixed_bfloat16 may be faster" in line]
    assert len(bfloat16) == cost.multiplies_in_bfloat16()


@pytest.mark.slow
def test_the_threads_of_a_run_are_set_once_in_a_process(tmp_path):
    script = f"""
import tensorflow as tf
from tf_cutnmix import Config, train_and_evaluate
settings = {{**{SMALL!r}, "steps": 1, "overwrite": True}}
train_and_evaluate(Config(**settings, threads=1, workdir="run"))
print("threads", tf.config.threading.get_intra_op_parallelism_threads())
train_and_evaluate(Config(**settings, threads=1, workdir="run"))
train_and_evaluate(Config(**settings, threads=2, workdir="run"))
"""
    process = python("-c", script, cwd=tmp_path)
    assert process.returncode == 1
    assert "threads 1\n" in process.stdout
    assert "InputError: --threads=2: TensorFlow has begun in this process with 1 thread" in (
        process.stderr
    )
    assert "--threads=1\n" in (tmp_path / "run" / "flags.cfg").read_text()
