"""OnlineDistiller: its step, its graph, its evaluation, what it refuses."""

import random
import typing

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_networks import tiny

from tests.distillation.small_models import (
    BATCH,
    CLASSES,
    adapters_of,
    assert_same_state,
    batch_of,
    compiled,
    compiled_views,
    graph_of,
    images_of,
    labels_of,
    regularised,
    small_distiller,
    small_network,
    state_of,
    train,
    values_of,
)
from tf_cutnmix import CutMix, CutNMix, Method, OnlineDistiller, build_network
from tf_cutnmix.distillation import distiller
from tf_cutnmix.mixing.sampling import overlap


def assert_close_state(model: OnlineDistiller, other: OnlineDistiller) -> None:
    for (name, found), expected in zip(state_of(model).items(), values_of(other), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4, err_msg=name)


def softmax_of(network: keras.Model, images: np.ndarray) -> np.ndarray:
    logits = network(images)["logits"].numpy().astype(np.float64)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


class PlainDistiller:
    """What the design says, written anew: no code of the package but the mixing layer.

    Losses are Keras' own, the distance of features goes by their cosine, weight decay is added
    to the gradients, and SGD with Nesterov momentum and the moving average are NumPy.
    """

    def __init__(self, model: OnlineDistiller, build_peers) -> None:
        self.peers, self.averages = build_peers(), build_peers()
        for mine, peer in zip(self.peers + self.averages, model.peers * 2, strict=True):
            mine.set_weights(peer.get_weights())
        self.adapters = {
            pair: tf.Variable(adapter.kernel.value)
            for pair, adapter in zip([(0, 1), (1, 0)], adapters_of(model), strict=True)
        }
        self.trained = [w.value for peer in self.peers for w in peer.trainable_variables]
        self.trained += list(self.adapters.values())
        self.velocity = [np.zeros(weight.shape) for weight in self.trained]

    def losses(self, views, labels, outputs, ramp, temperature) -> dict[str, tf.Tensor]:
        # In training, for its BatchNormalization; nothing here drops out.
        soft = [
            tf.nn.softmax(average(view, training=True)["logits"] / temperature)
            for average, view in zip(self.averages, views, strict=True)
        ]
        target = (soft[0] + soft[1]) / 2
        entropy = keras.losses.CategoricalCrossentropy(from_logits=True)
        divergence = keras.losses.KLDivergence()
        terms = {"cross_entropy": 0.0, "teacher": 0.0, "feature": 0.0}
        for k, j in self.adapters:
            logits, features = outputs[k]["logits"], outputs[k]["features"]
            terms["cross_entropy"] += entropy(labels, logits)
            kl = divergence(target, tf.nn.softmax(logits / temperature))
            terms["teacher"] += ramp * 0.7 * temperature**2 * kl
            # Keras' loss is minus the cosine; |u - v|^2 = 2 - 2 cos.
            similarity = keras.losses.cosine_similarity(
                tf.stop_gradient(outputs[j]["features"]), features @ self.adapters[k, j]
            )
            terms["feature"] += ramp * 0.4 * tf.reduce_mean(2 + 2 * similarity)
        return terms

    def step(self, step: int, images, labels, *, mixing, rate, decay, ramp_steps, momentum):
        mixed = mixing({"images": images, "labels": labels}, training=True, step=step)
        views = [mixed["images"][:, 0], mixed["images"][:, 1]]
        ramp = np.exp(-5 * (1 - min(step / ramp_steps, 1)) ** 2)
        with tf.GradientTape() as tape:
            outputs = [p(view, training=True) for p, view in zip(self.peers, views, strict=True)]
            terms = self.losses(views, mixed["labels"], outputs, ramp, temperature=2.0)
            loss = sum(terms.values())
        terms["weight_decay"] = decay / 2 * sum(np.sum(np.square(w)) for w in self.trained)
        gradients = tape.gradient(loss, self.trained)
        for i, (weight, gradient) in enumerate(zip(self.trained, gradients, strict=True)):
            gradient = gradient.numpy() + decay * weight.numpy()
            self.velocity[i] = 0.9 * self.velocity[i] - rate * gradient
            weight.assign_add(0.9 * self.velocity[i] - rate * gradient)
        kept = min(1 - 1 / (step + 1), momentum)
        for average, peer in zip(self.averages, self.peers, strict=True):
            pairs = zip(average.trainable_weights, peer.trainable_weights, strict=True)
            for old, new in pairs:
                old.assign(kept * old.numpy() + (1 - kept) * new.numpy())
        return {name: float(value) for name, value in terms.items()}


def unlike_peers() -> list[keras.Model]:
    return [build_network("resnet8", (8, 8, 3), CLASSES), small_network(24)]


def test_three_steps_of_unlike_peers_are_those_of_a_plain_implementation():
    random.seed(1)
    mixing = CutNMix(2, num_classes=CLASSES, seed=5)
    method = Method("cutnmix", {"teacher": 0.7, "feature": 0.4}, temperature=2.0, ramp_steps=2)
    model = OnlineDistiller(unlike_peers(), mixing, method, momentum=0.3, weight_decay=0.01)
    compiled(model, rate=0.05)
    plain = PlainDistiller(model, unlike_peers)
    for step in range(3):
        images, labels = batch_of(step)
        model.reset_metrics()
        found = model.train_on_batch(images, labels, return_dict=True)
        expected = plain.step(
            *(step, images, labels),
            **{"mixing": mixing, "rate": 0.05, "decay": 0.01, "ramp_steps": 2, "momentum": 0.3},
        )
        expected["loss"] = sum(expected.values())
        expected["region_overlap"] = overlap(mixing.draw(step, (BATCH, 8, 8)))
        assert set(found) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-3, err_msg=f"{name} at {step}")
    pairs = [
        *zip(model.peers, plain.peers, strict=True),
        *zip(model.averages, plain.averages, strict=True),
    ]
    for mine, reference in pairs:
        for found, expected in zip(mine.weights, reference.weights, strict=True):
            np.testing.assert_allclose(
                found, expected.numpy(), rtol=1e-3, atol=2e-4, err_msg=found.path
            )
    for adapter, expected in zip(adapters_of(model), plain.adapters.values(), strict=True):
        np.testing.assert_allclose(adapter.kernel, expected.numpy(), rtol=1e-3, atol=2e-4)
    assert int(model.step.value) == 3


def test_the_optimizer_holds_a_slot_for_peers_and_adapters_and_none_for_averages(trained):
    peers = [v for peer in trained.peers for v in peer.trainable_variables]
    adapters = [adapter.kernel for adapter in adapters_of(trained)]
    assert [kernel.shape for kernel in adapters] == [(6, 9), (9, 6)]
    trained_ids = {id(variable) for variable in trained.trainable_variables}
    assert trained_ids == {id(variable) for variable in [*peers, *adapters]}
    assert len(trained.trainable_variables) == len(trained_ids)
    assert len(trained.optimizer.variables) == 2 + len(trained_ids)


def test_independent_peers_do_not_depend_on_each_other():
    """The first of two peers is trained as it is beside another peer, or alone."""

    def first_peer(others: int) -> list[np.ndarray]:
        random.seed(0)
        peers = [small_network(), *(small_network(7 + i) for i in range(others))]
        model = OnlineDistiller(peers, CutMix(seed=3), "independent")
        train(compiled(model), steps=2)
        return peers[0].get_weights()

    for found, expected in zip(first_peer(2), first_peer(0), strict=True):
        np.testing.assert_array_equal(found, expected)


# Its graph


def test_a_run_repeats_to_the_bit(trained):
    assert_same_state(train(graph_of(regularised()), steps=3), state_of(trained))


@pytest.mark.long
def test_eager_execution_graphs_and_xla_agree():
    views = compiled_views()
    eager = train(compiled(small_distiller(**views)), steps=2)
    assert_close_state(train(graph_of(small_distiller(**views)), steps=2), eager)
    xla = compiled(small_distiller(**views), jit_compile=True)
    assert_close_state(train(xla, steps=2), eager)


@pytest.mark.long
def test_several_steps_per_execution_are_the_same_steps(trained):
    images, labels = (np.concatenate(a) for a in zip(*map(batch_of, range(3)), strict=True))
    model = compiled(regularised(), jit_compile=False, steps_per_execution=2)
    model.fit(images, labels, batch_size=BATCH, shuffle=False, verbose=0)
    assert int(model.step.value) == 3
    assert_close_state(model, trained)


def is_left_as_traced() -> bool:
    return tf.config.optimizer.get_experimental_options()["disable_meta_optimizer"]


class Watch(keras.layers.Layer):
    """Augments nothing and notes at each trace whether TensorFlow is to optimize the graph."""

    seen: typing.ClassVar[list[bool]] = []

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        self.seen.append(is_left_as_traced())
        return images


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_step_is_traced_once_and_left_so_unless_xla_compiles_it(jit):
    Watch.seen, after = [], []
    settings = {"augment": Watch(), "method": "independent", "mixing": None}
    model = compiled(small_distiller(**settings), jit_compile=jit)
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_, **logs: after.append(is_left_as_traced())
    )
    model.fit(*batch_of(0), batch_size=2, verbose=0, callbacks=[note])
    model.fit(*batch_of(0), batch_size=2, verbose=0)
    assert Watch.seen == [not jit]
    assert after == [False, False]


@pytest.mark.parametrize("chosen", [True, False])
def test_what_a_user_chose_of_graphs_is_kept_also_when_a_step_fails(chosen):
    @distiller.as_traced()
    def fail() -> None:
        assert is_left_as_traced()
        raise RuntimeError("a step")

    before = is_left_as_traced()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": chosen})
    try:
        with pytest.raises(RuntimeError, match="a step"):
            fail()
        assert is_left_as_traced() == chosen
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": before})


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_takes_about_the_same_steps_with_float32_weights(precision, policy):
    def change(model: OnlineDistiller) -> np.ndarray:
        before = [v.numpy() for v in model.trainable_variables]
        after = train(model, steps=2).trainable_variables
        return np.concatenate([np.ravel(v - b) for v, b in zip(after, before, strict=True)])

    expected = change(compiled(small_distiller()))
    policy(precision)
    model = compiled(small_distiller())
    found = change(model)
    assert np.linalg.norm(found - expected) < 0.2 * np.linalg.norm(expected)
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (precision == "mixed_float16")
    assert {network.compute_dtype for network in model.networks.values()} == {precision[6:]}
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    assert all(np.all(np.isfinite(value)) for value in values_of(model))
    probabilities = model(images_of(3))
    assert probabilities.dtype == tf.float32
    np.testing.assert_allclose(np.sum(probabilities, axis=-1), 1, rtol=1e-5)


# Its evaluation


def test_evaluation_reports_each_network_and_the_ensembles_and_changes_nothing(trained):
    images, labels = images_of(43), labels_of(43)
    before = state_of(trained)
    found = trained.evaluate(images, labels, batch_size=8, verbose=0, return_dict=True)
    averages = [softmax_of(network, images) for network in trained.averages]
    peers = [softmax_of(network, images) for network in trained.peers]
    teacher, ensemble = np.mean(averages, axis=0), np.mean(peers, axis=0)
    names = ("teacher", "ensemble", "average1", "average2", "peer1", "peer2")
    expected = {
        f"{name}_accuracy": np.mean(prediction.argmax(axis=-1) == labels)
        for name, prediction in zip(names, (teacher, ensemble, *averages, *peers), strict=True)
    }
    likelihood = teacher[np.arange(len(labels)), labels]
    np.testing.assert_allclose(found["loss"], -np.log(likelihood).mean(), rtol=1e-4)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert len(set(expected.values())) > 2
    in_order = [found[metric.name] for metric in trained.metrics if metric.name in found]
    assert len(in_order) == len(found) == 7
    assert trained.evaluate(images, labels, batch_size=8, verbose=0) == pytest.approx(in_order)
    np.testing.assert_allclose(trained.predict(images, verbose=0), teacher, rtol=1e-4)
    np.testing.assert_allclose(trained(images), teacher, rtol=1e-4)
    assert_same_state(trained, before)


def test_fit_takes_a_dataset_and_a_validation_set_and_logs_every_term():
    dataset = tf.data.Dataset.from_tensor_slices((images_of(12), labels_of(12))).batch(4)
    validation = images_of(9, seed=1), labels_of(9, seed=1)
    model = compiled(small_distiller())
    history = model.fit(dataset, epochs=2, validation_data=validation, verbose=0).history
    terms = ["cross_entropy", "teacher", "feature", "weight_decay"]
    accuracies = [f"{name}_accuracy" for name in ("teacher", "ensemble", *model.networks)]
    names = ["loss", *terms, "region_overlap", "val_loss", *(f"val_{name}" for name in accuracies)]
    assert sorted(history) == sorted(names)
    for epoch in range(2):
        total = sum(history[term][epoch] for term in terms)
        assert history["loss"][epoch] == pytest.approx(total, rel=1e-5)
    after = model.evaluate(*validation, verbose=0, return_dict=True)
    assert {name: history[f"val_{name}"][-1] for name in after} == pytest.approx(after)


# What it refuses


def without_dict() -> keras.Model:
    images = keras.Input((8, 8, 3))
    return keras.Model(images, keras.layers.Dense(CLASSES)(keras.layers.Flatten()(images)))


class Subclassed(keras.Model):
    def call(self, images):
        return {"features": images, "logits": images}


@pytest.mark.parametrize(
    ("peers", "settings", "message"),
    [
        (lambda: [], {}, "at least one"),
        (lambda: [small_network()] * 2, {}, "different objects"),
        (lambda: [small_network(), small_network(num_classes=7)], {}, r"same classes.*\[5, 7\]"),
        (lambda: [small_network(num_classes=1)], {}, "2 or more classes"),
        (lambda: [small_network(), tiny((16, 16, 3), CLASSES)], {}, "images of one size"),
        (lambda: [small_network(), without_dict()], {}, "peer 2 must be a functional model"),
        (lambda: [Subclassed()], {}, "peer 1 must be a functional model"),
        *[
            (lambda: [small_network(), small_network()], settings, message)
            for settings, message in (
                ({"mixing": CutNMix(1, seed=0)}, "mixing makes 1 views for 2 peers"),
                ({"mixing": CutNMix(3, seed=0)}, "mixing makes 3 views for 2 peers"),
                ({"mixing": 3}, r"mixing must be a layer, or None\. Received: 3"),
                ({"augment": 3}, r"augment must be a layer, or None\. Received: 3"),
                ({"momentum": 1.0}, "momentum must be"),
                ({"momentum": float("nan")}, "momentum must be"),
                ({"momentum": -0.1}, "momentum must be"),
                ({"weight_decay": -1e-4}, "weight_decay must be"),
                ({"method": "cutmix"}, "did you mean 'cutnmix'"),
            )
        ],
    ],
)
def test_what_does_not_fit_together_is_refused(peers, settings, message):
    with pytest.raises(ValueError, match=message):
        OnlineDistiller(peers(), **settings)


@pytest.mark.parametrize("name", ["loss", "metrics", "weighted_metrics", "loss_weights"])
def test_a_loss_and_metrics_are_refused_where_they_are_passed(name):
    with pytest.raises(ValueError, match=f"compile it without {name}"):
        small_distiller(method="independent").compile("sgd", **{name: []})


def test_images_without_labels_are_refused():
    with pytest.raises(ValueError, match="needs pairs"):
        compiled(small_distiller()).fit(images_of(4), verbose=0)
