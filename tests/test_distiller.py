"""Training steps against a plain re-implementation, evaluation, saving, and steps undone."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_cutnmix import CropAndFlip, CutMix, CutNMix, Method, MixUp, OnlineDistiller, build_network
from tf_cutnmix.errors import DivergenceError
from tf_cutnmix.mixing import overlap

CLASSES = 5
BATCH = 4


def small_network(width: int = 6, num_classes: int = CLASSES, dropout: float = 0.0) -> keras.Model:
    images = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 64, offset=-2)(images)
    x = keras.layers.Conv2D(width, 3, strides=2, use_bias=False)(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    x = keras.layers.ReLU()(x)
    features = keras.layers.GlobalAveragePooling2D()(x)
    hidden = keras.layers.Dropout(dropout)(features) if dropout else features
    logits = keras.layers.Dense(num_classes)(hidden)
    return keras.Model(images, {"features": features, "logits": logits})


def square_root_network() -> keras.Model:
    """On black images its features are 0, where their gradient is not finite."""
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, use_bias=False)(images)
    features = keras.ops.sqrt(keras.ops.mean(keras.ops.relu(x), axis=(1, 2)))
    logits = keras.layers.Dense(CLASSES)(features)
    return keras.Model(images, {"features": features, "logits": logits})


def images_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3)).astype("uint8")


def labels_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + 100).integers(0, CLASSES, count)


def batch_of(seed: int) -> tuple[np.ndarray, np.ndarray]:
    return images_of(BATCH, seed).astype("float32"), labels_of(BATCH, seed)


def sgd(rate: float = 0.1) -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)


def small_distiller(dropout: float = 0.0, **settings) -> OnlineDistiller:
    """Two peers of unlike feature sizes, with the same weights every time.

    Unless a mixing is given, it is one for which XLA is not waited.
    """
    keras.utils.set_random_seed(0)
    peers = [small_network(6, dropout=dropout), small_network(9, dropout=dropout)]
    mixing = CutNMix(2, seed=0)
    mixing.supports_jit = False
    defaults = {"mixing": mixing, "momentum": 0.6, "weight_decay": 1e-3}
    return OnlineDistiller(peers, **{**defaults, **settings})


def compiled(model: OnlineDistiller, rate: float = 0.1, **how) -> OnlineDistiller:
    how = how or {"run_eagerly": True}
    model.compile(sgd(rate), **how)
    return model


def graph_of(model: OnlineDistiller) -> OnlineDistiller:
    return compiled(model, jit_compile=False)


def regularised() -> OnlineDistiller:
    """With every kind of randomness: crops, mixing and dropout."""
    return small_distiller(**compiled_views(), dropout=0.3)


def compiled_views() -> dict[str, keras.layers.Layer]:
    """Crops and a mixing that XLA compiles, as it does by default."""
    return {"augment": CropAndFlip(seed=0), "mixing": CutNMix(2, seed=0)}


def train(model: OnlineDistiller, steps: int, seed: int = 0) -> OnlineDistiller:
    for step in range(steps):
        model.train_on_batch(*batch_of(seed + step))
    return model


def state_of(model: OnlineDistiller) -> dict[str, np.ndarray]:
    """Every variable but the two that tell of a failure, the metrics and the mixing's count."""
    owners = {
        **model.networks,
        **{f"adapter{i}": adapter for i, adapter in enumerate(adapters_of(model))},
        "optimizer": model.optimizer,
    }
    state = {
        f"{owner} {i} {variable.path}": variable.numpy()
        for owner, holder in owners.items()
        for i, variable in enumerate(holder.variables)
    }
    return {**state, "step": model.step.numpy()}


def adapters_of(model: OnlineDistiller) -> list[keras.layers.Layer]:
    return [adapter for part in model.parts for adapter in part.adapters]


def values_of(model: OnlineDistiller) -> list[np.ndarray]:
    return list(state_of(model).values())


def assert_same_state(model: OnlineDistiller, before: dict[str, np.ndarray]) -> None:
    for (name, found), expected in zip(state_of(model).items(), before.values(), strict=True):
        np.testing.assert_array_equal(found, expected, err_msg=name)


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


@pytest.fixture(scope="module")
def trained() -> OnlineDistiller:
    """Trained for five steps, so that peers and averages differ. Only read it."""
    return train(graph_of(regularised()), steps=5)


@pytest.fixture
def policy():
    """Sets a dtype policy for one test."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


# Training


def test_three_steps_of_unlike_peers_are_those_of_a_plain_implementation():
    keras.utils.set_random_seed(1)
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
    trained_ids = {id(variable) for variable in trained.trainable_variables}
    assert trained_ids == {id(variable) for variable in [*peers, *adapters]}
    assert len(trained.trainable_variables) == len(trained_ids)
    assert len(trained.optimizer.variables) == 2 + len(trained_ids)


def test_adapters_are_trained_and_lie_outside_every_network():
    model = compiled(small_distiller())
    before = [adapter.kernel.numpy() for adapter in adapters_of(model)]
    assert [kernel.shape for kernel in before] == [(6, 9), (9, 6)]
    train(model, steps=1)
    for adapter, old in zip(adapters_of(model), before, strict=True):
        assert np.abs(adapter.kernel - old).max() > 0
    networks = {id(v) for network in model.networks.values() for v in network.variables}
    assert not networks & {id(adapter.kernel) for adapter in adapters_of(model)}


def test_a_method_without_features_makes_no_adapters():
    assert small_distiller(method="independent").parts == []
    assert small_distiller(method=Method(weights={"feature": 0})).parts == []


def test_the_model_trains_the_objects_that_it_was_given():
    keras.utils.set_random_seed(0)
    peers = [small_network(), small_network()]
    before = [peer.get_weights()[0] for peer in peers]
    train(compiled(OnlineDistiller(peers)), steps=1)
    for peer, old in zip(peers, before, strict=True):
        assert np.abs(peer.get_weights()[0] - old).max() > 0


def test_independent_peers_do_not_depend_on_each_other():
    """The first of two peers is trained as it is beside another peer, or alone."""

    def first_peer(others: int) -> list[np.ndarray]:
        keras.utils.set_random_seed(0)
        peers = [small_network(), *(small_network(7 + i) for i in range(others))]
        model = OnlineDistiller(peers, CutMix(seed=3), "independent")
        return train(compiled(model), steps=2).peers[0].get_weights()

    alone = first_peer(0)
    for found, expected in zip(first_peer(2), alone, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_single_peer_learns_from_its_own_average():
    model = OnlineDistiller([small_network()], CutNMix(1, seed=0))
    logs = compiled(model).fit(*batch_of(0), epochs=3, verbose=0).history
    assert logs["feature"] == [0.0] * 3
    assert logs["teacher"][-1] > 0


def test_a_run_repeats_to_the_bit(trained):
    assert_same_state(train(graph_of(regularised()), steps=5), state_of(trained))


def test_eager_execution_graphs_and_xla_agree():
    eager = train(compiled(small_distiller()), steps=2)
    views = {"mixing": CutNMix(2, seed=0)}
    xla = compiled(small_distiller(**views), jit_compile=True)
    assert_close_state(train(graph_of(small_distiller(**views)), steps=2), eager)
    assert_close_state(train(xla, steps=2), eager)


def test_several_steps_per_execution_are_the_same_steps(trained):
    images = np.concatenate([batch_of(seed)[0] for seed in range(5)])
    labels = np.concatenate([batch_of(seed)[1] for seed in range(5)])
    model = compiled(regularised(), jit_compile=False, steps_per_execution=2)
    model.fit(images, labels, batch_size=BATCH, shuffle=False, verbose=0)
    assert int(model.step.value) == 5
    assert_close_state(model, trained)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_takes_about_the_same_steps_with_float32_weights(precision, policy):
    def change(model: OnlineDistiller) -> np.ndarray:
        before = [v.numpy() for v in model.trainable_variables]
        after = train(model, steps=3).trainable_variables
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


def test_mixed_precision_predicts_float32_probabilities(policy):
    policy("mixed_bfloat16")
    probabilities = small_distiller()(images_of(3))
    assert probabilities.dtype == tf.float32
    np.testing.assert_allclose(np.sum(probabilities, axis=-1), 1, rtol=1e-5)


# Views and labels


def test_each_peer_sees_its_own_view_of_cutnmix():
    mixing = CutNMix(2, num_classes=CLASSES, seed=3)
    model = small_distiller(mixing=mixing)
    images, labels = batch_of(0)
    views, found, _ = model.make_views(tf.constant(images), tf.constant(labels), tf.constant(1))
    expected = mixing({"images": images, "labels": labels}, step=1)
    assert len(views) == 2
    for k, view in enumerate(views):
        np.testing.assert_array_equal(view, expected["images"][:, k])
    assert not np.array_equal(*views)
    np.testing.assert_array_equal(found, expected["labels"])


@pytest.mark.parametrize("layer", [CutMix, MixUp])
def test_peers_share_the_views_of_a_mixing_that_makes_one(layer):
    mixing = layer(alpha=1.0, num_classes=CLASSES, seed=3)
    images, labels = batch_of(0)
    model = small_distiller(mixing=mixing)
    views, found, _ = model.make_views(tf.constant(images), tf.constant(labels), tf.constant(1))
    expected = mixing({"images": images, "labels": labels}, step=1)
    assert len(views) == 2
    for view in views:
        np.testing.assert_allclose(view, expected["images"], rtol=1e-6)
    np.testing.assert_allclose(found, expected["labels"], rtol=1e-6)
    assert not np.allclose(expected["images"], images)


def test_without_mixing_peers_see_the_images_themselves():
    images, labels = batch_of(0)
    model = small_distiller(mixing=None)
    views, found, _ = model.make_views(tf.constant(images), tf.constant(labels), tf.constant(1))
    assert len(views) == 2
    for view in views:
        np.testing.assert_array_equal(view, images)
    np.testing.assert_array_equal(found, np.eye(CLASSES)[labels])


def test_augmentation_comes_before_mixing_and_follows_the_step():
    augment, mixing = CropAndFlip(0.25, seed=2), CutNMix(2, num_classes=CLASSES, seed=3)
    model = small_distiller(mixing=mixing, augment=augment)
    images, labels = map(tf.constant, batch_of(0))
    views, _, _ = model.make_views(images, labels, tf.constant(1))
    moved = augment(images, step=1)
    expected = mixing({"images": moved, "labels": labels}, step=1)["images"]
    np.testing.assert_array_equal(tf.stack(views, axis=1), expected)
    later, _, _ = model.make_views(images, labels, tf.constant(2))
    assert not np.array_equal(later[0], views[0])


@pytest.mark.parametrize("mixing", [CutNMix(2, seed=0), None], ids=["cutnmix", "none"])
def test_integers_columns_and_one_hot_labels_train_alike(mixing):
    images, labels = batch_of(0)
    expected = compiled(small_distiller(mixing=mixing))
    expected.train_on_batch(images, labels)
    kinds = [labels[:, None], labels.astype("uint8"), np.eye(CLASSES, dtype="float32")[labels]]
    for kind in kinds:
        model = compiled(small_distiller(mixing=mixing))
        model.train_on_batch(images, kind)
        assert_same_state(model, state_of(expected))


@pytest.mark.parametrize("wrong", [CLASSES, -1])
@pytest.mark.parametrize("mixing", [CutMix(num_classes=CLASSES, seed=0), None], ids=["mix", "none"])
def test_integer_labels_out_of_range_are_refused(mixing, wrong):
    model = compiled(small_distiller(mixing=mixing))
    with pytest.raises(tf.errors.InvalidArgumentError, match="num_classes"):
        model.train_on_batch(images_of(2), np.array([0, wrong]))


# Evaluation and prediction


def test_prediction_is_the_mean_probability_of_the_averaged_peers(trained):
    images = images_of(7)
    first, second = (softmax_of(average, images) for average in trained.averages)
    np.testing.assert_allclose(trained.predict(images, verbose=0), (first + second) / 2, rtol=1e-4)
    np.testing.assert_allclose(trained(images), (first + second) / 2, rtol=1e-4)


def test_evaluation_reports_the_accuracy_of_each_network_and_of_the_ensembles(trained):
    images, labels = images_of(43), labels_of(43)
    found = trained.evaluate(images, labels, batch_size=8, verbose=0, return_dict=True)
    averages = [softmax_of(network, images) for network in trained.averages]
    peers = [softmax_of(network, images) for network in trained.peers]
    teacher, ensemble = np.mean(averages, axis=0), np.mean(peers, axis=0)
    predictions = {
        "teacher": teacher,
        "ensemble": ensemble,
        **{"average1": averages[0], "average2": averages[1], "peer1": peers[0], "peer2": peers[1]},
    }
    expected = {
        f"{name}_accuracy": np.mean(prediction.argmax(axis=-1) == labels)
        for name, prediction in predictions.items()
    }
    likelihood = teacher[np.arange(len(labels)), labels]
    np.testing.assert_allclose(found.pop("loss"), -np.log(likelihood).mean(), rtol=1e-4)
    assert found == pytest.approx(expected)
    assert len(set(expected.values())) > 2


def test_evaluation_takes_integers_columns_and_one_hot_labels():
    images, labels = images_of(9), labels_of(9)
    model = compiled(small_distiller())
    results = [
        model.evaluate(images, kind, verbose=0)
        for kind in (labels, labels[:, None], np.eye(CLASSES)[labels])
    ]
    assert results[0] == pytest.approx(results[1])
    assert results[0] == pytest.approx(results[2])


def test_evaluation_as_a_list_has_one_entry_per_name_in_the_order_of_the_metrics(trained):
    images, labels = images_of(9), labels_of(9)
    named = trained.evaluate(images, labels, verbose=0, return_dict=True)
    in_order = [named[metric.name] for metric in trained.metrics if metric.name in named]
    assert len(in_order) == len(named) == 7
    assert trained.evaluate(images, labels, verbose=0) == pytest.approx(in_order)


def test_evaluation_and_prediction_change_nothing(trained):
    before = state_of(trained)
    trained.evaluate(images_of(9), labels_of(9), verbose=0)
    trained.predict(images_of(9), verbose=0)
    assert_same_state(trained, before)


def test_fit_takes_a_dataset_a_validation_set_and_callbacks():
    class Note(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(sorted(logs))

    seen = []
    dataset = tf.data.Dataset.from_tensor_slices((images_of(12), labels_of(12))).batch(4)
    validation = images_of(9, seed=1), labels_of(9, seed=1)
    model = compiled(small_distiller())
    history = model.fit(
        dataset, epochs=2, validation_data=validation, callbacks=[Note()], verbose=0
    ).history
    terms = ["cross_entropy", "teacher", "feature", "weight_decay"]
    accuracies = [f"{name}_accuracy" for name in ("teacher", "ensemble", *model.networks)]
    names = ["loss", *terms, "region_overlap", "val_loss", *(f"val_{name}" for name in accuracies)]
    assert sorted(history) == sorted(names)
    assert seen == [sorted(names)] * 2
    for epoch in range(2):
        total = sum(history[term][epoch] for term in terms)
        assert history["loss"][epoch] == pytest.approx(total, rel=1e-5)
    after = model.evaluate(*validation, verbose=0, return_dict=True)
    assert {name: history[f"val_{name}"][-1] for name in after} == pytest.approx(after)


def test_fit_takes_a_single_callback_as_keras_does():
    seen = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    compiled(small_distiller()).fit(*batch_of(0), callbacks=callback, verbose=0)
    assert seen == [0]


# Saving


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model after two steps, and its file. Keras itself does not save the state of dropout."""
    model = train(compiled(small_distiller(**compiled_views())), steps=2)
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model.save(path)
    return model, path


def test_a_loaded_model_holds_every_variable_and_predicts_alike(saved):
    model, path = saved
    loaded = keras.models.load_model(path)
    assert_same_state(loaded, state_of(model))
    images = images_of(6)
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0)
    )


def test_a_loaded_model_keeps_its_settings(tmp_path):
    model = small_distiller(
        method=Method("cutnmix", {"teacher": 0.5}, 4.0, ramp_steps=9),
        augment=CropAndFlip(0.2, flip=False, seed=4),
        mixing=CutNMix(2, alpha=0.3, num_classes=CLASSES, regions="spread", seed=6),
        name="two_peers",
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.method == model.method
    assert loaded.momentum == model.momentum
    assert loaded.weight_decay == model.weight_decay
    assert loaded.name == "two_peers"
    for layer in ("augment", "mixing"):
        found, expected = getattr(loaded, layer), getattr(model, layer)
        assert type(found) is type(expected)
        assert found.get_config() == expected.get_config()


def test_training_goes_on_after_loading_as_if_there_had_been_no_break(saved):
    loaded = train(keras.models.load_model(saved[1]), steps=2, seed=2)
    unbroken = train(compiled(small_distiller(**compiled_views())), steps=4)
    assert int(loaded.step.value) == 4
    assert_same_state(loaded, state_of(unbroken))


def test_a_saved_model_loads_in_a_fresh_process(saved, tmp_path):
    program = """
        import sys
        import numpy as np
        import tf_cutnmix, keras

        model = keras.models.load_model(sys.argv[1])
        np.save(sys.argv[3], model.predict(np.load(sys.argv[2]), verbose=0))
    """
    model, path = saved
    np.save(tmp_path / "images.npy", images_of(6))
    places = [str(path), str(tmp_path / "images.npy"), str(tmp_path / "found.npy")]
    command = [sys.executable, "-c", textwrap.dedent(program), *places]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    expected = model.predict(images_of(6), verbose=0)
    np.testing.assert_allclose(np.load(places[2]), expected, rtol=1e-6)


# Steps that are not finite


def test_a_step_is_traced_once(monkeypatch):
    traced = []
    original = OnlineDistiller.train_step

    def counting(model: OnlineDistiller, data: tuple) -> dict:
        traced.append(data)
        return original(model, data)

    monkeypatch.setattr(OnlineDistiller, "train_step", counting)
    train(graph_of(small_distiller()), steps=2)
    assert len(traced) == 1


@pytest.mark.parametrize("how", ["eager", "graph", "xla", "mixed_float16"])
def test_a_step_that_is_not_finite_changes_nothing_nor_does_any_after_it(how, policy):
    if how == "mixed_float16":
        policy(how)
    model = compiled(regularised(), run_eagerly=how == "eager", jit_compile=how == "xla")
    train(model, steps=2)
    before = state_of(model)
    images, labels = batch_of(2)
    images[1, 3, 3, 0] = np.nan
    logs = model.train_on_batch(images, labels, return_dict=True)
    assert np.all(np.isfinite(list(logs.values())))
    assert_same_state(model, before)
    train(model, steps=2, seed=10)
    assert_same_state(model, before)
    with pytest.raises(DivergenceError, match="step 2: the cross_entropy of the loss"):
        model.check_finite()


def test_fit_stops_at_a_learning_rate_that_is_too_large():
    model = compiled(small_distiller(), rate=1e30)
    images, labels = images_of(12), labels_of(12)
    with pytest.raises(DivergenceError, match=r"step 1: the \w+ of the loss is not finite"):
        model.fit(images, labels, batch_size=4, epochs=3, verbose=0)
    assert int(model.step.value) == 1
    assert all(np.all(np.isfinite(value)) for value in values_of(model))


def test_fit_stops_within_a_long_epoch():
    images, labels = images_of(120).astype("float32"), labels_of(120)
    images[6] = np.nan
    model = compiled(small_distiller(), jit_compile=False)
    batches = []
    count = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda b, logs: batches.append(b))
    with pytest.raises(DivergenceError, match="step 6"):
        model.fit(images, labels, 1, shuffle=False, verbose=0, callbacks=[count])
    assert len(batches) < 60


def poisoned(part: str) -> OnlineDistiller:
    model = compiled(small_distiller())
    variable = {
        "teacher": model.averages[1].variables[0],
        "feature": adapters_of(model)[0].kernel,
        "cross_entropy": model.peers[0].trainable_variables[0],
    }[part]
    variable.assign(np.full(variable.shape, np.nan))
    return model


@pytest.mark.parametrize("term", ["cross_entropy", "teacher", "feature"])
def test_the_error_names_the_step_and_the_term(term):
    with pytest.raises(DivergenceError, match=f"step 0: the {term} of the loss is not finite"):
        poisoned(term).fit(*batch_of(0), verbose=0)


def test_a_gradient_that_is_not_finite_is_noticed_though_the_loss_is_finite():
    keras.utils.set_random_seed(0)
    model = compiled(OnlineDistiller([square_root_network(), square_root_network()]))
    train(model, steps=1)
    before = state_of(model)
    with pytest.raises(DivergenceError, match="step 1: the gradient of the loss is not finite"):
        model.fit(np.zeros((4, 8, 8, 3), "float32"), labels_of(4), verbose=0)
    assert_same_state(model, before)


def test_a_loss_scale_that_is_too_large_is_lowered_and_is_no_divergence(policy):
    policy("mixed_float16")
    model = small_distiller()
    optimizer = keras.optimizers.LossScaleOptimizer(sgd(), initial_scale=2.0**40)
    model.compile(optimizer, run_eagerly=True)
    before = model.peers[0].trainable_variables[0].numpy()
    train(model, steps=1)
    model.check_finite()
    assert float(optimizer.dynamic_scale.value) == 2.0**39
    np.testing.assert_array_equal(model.peers[0].trainable_variables[0], before)


@pytest.mark.parametrize(("bad", "value"), [(0, np.nan), (1, np.inf), (2, -np.inf)])
def test_the_first_bad_step_is_the_one_that_is_named(bad, value):
    model = compiled(small_distiller())
    for step in range(4):
        images, labels = batch_of(step)
        if step >= bad:
            images[0] = value
        model.train_on_batch(images, labels)
    assert int(model.step.value) == bad
    with pytest.raises(DivergenceError, match=f"step {bad}:"):
        model.check_finite()


def test_a_later_failure_does_not_replace_the_first_one():
    model = poisoned("feature")
    images, labels = batch_of(0)
    for factor in (1.0, np.nan):
        model.train_on_batch(factor * images, labels)
    with pytest.raises(DivergenceError, match="step 0: the feature"):
        model.check_finite()


def test_a_healthy_run_has_nothing_to_report(trained):
    trained.check_finite()


# Errors


def without_dict() -> keras.Model:
    images = keras.Input((8, 8, 3))
    return keras.Model(images, keras.layers.Dense(CLASSES)(keras.layers.Flatten()(images)))


class Subclassed(keras.Model):
    def call(self, images):
        return {"features": images, "logits": images}


@pytest.mark.parametrize(
    ("peers", "message"),
    [
        (lambda: [], "at least one"),
        (lambda: [small_network()] * 2, "different objects"),
        (lambda: [small_network(), small_network(num_classes=7)], r"same classes.*\[5, 7\]"),
        (lambda: [small_network(), without_dict()], "peer 2 must be a functional model"),
        (lambda: [Subclassed()], "peer 1 must be a functional model"),
    ],
    ids=["none", "twice", "unlike classes", "no dictionary", "subclassed"],
)
def test_peers_that_do_not_fit_are_refused(peers, message):
    with pytest.raises(ValueError, match=message):
        OnlineDistiller(peers())


@pytest.mark.parametrize("views", [1, 3])
def test_a_mixing_for_another_number_of_peers_is_refused(views):
    with pytest.raises(ValueError, match=f"mixing makes {views} views for 2 peers"):
        small_distiller(mixing=CutNMix(views, seed=0))


@pytest.mark.parametrize(
    "setting",
    [{"momentum": 1.0}, {"momentum": -0.1}, {"momentum": float("nan")}, {"weight_decay": -1e-4}],
    ids=str,
)
def test_a_setting_out_of_range_is_refused_by_name(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))} must be"):
        small_distiller(**setting)


def test_an_unknown_method_is_refused_with_the_nearest_one():
    with pytest.raises(ValueError, match="did you mean 'cutnmix'"):
        small_distiller(method="cutmix")


def test_a_loss_of_ones_own_is_refused():
    model = small_distiller()
    model.compile(sgd(), loss="categorical_crossentropy", run_eagerly=True)
    with pytest.raises(ValueError, match="compile it without a loss"):
        model.fit(*batch_of(0), verbose=0)


@pytest.mark.parametrize(
    "data",
    [
        {"x": images_of(4)},
        {"x": images_of(4), "y": labels_of(4), "sample_weight": np.ones(4)},
        {"x": images_of(4), "y": labels_of(4), "class_weight": dict.fromkeys(range(CLASSES), 1.0)},
    ],
    ids=["no labels", "sample weights", "class weights"],
)
def test_data_other_than_images_and_labels_is_refused(data):
    with pytest.raises(ValueError, match="needs pairs"):
        compiled(small_distiller()).fit(**data, verbose=0)
