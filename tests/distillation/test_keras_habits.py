"""What a Keras user types does what Keras does, or is refused in a line."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_peers import tiny_peer
from tf_cutnmix import CutMix, CutNMix, Method, OnlineDistiller, adapt, mix_dataset, share_stages

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3)).astype("uint8")
CLASSES = np.arange(8) % 10
ONE_HOT = keras.utils.to_categorical(CLASSES, 10)
WEIGHTS = np.linspace(0, 1.5, 8).astype("float32")
OF_CLASSES = np.linspace(0.25, 3, 10).astype("float32")


def made(method="independent", mixing=None, **settings) -> OnlineDistiller:
    random.seed(7)
    model = OnlineDistiller([tiny_peer(), tiny_peer()], mixing, method, **settings)
    model.compile(keras.optimizers.SGD(0.05), run_eagerly=True)
    return model


def losses(model: OnlineDistiller, *data, **settings) -> list[float]:
    return model.fit(*data, batch_size=8, shuffle=False, verbose=0, **settings).history["loss"]


class Batches(keras.utils.PyDataset):
    """Of 3 images and of 5, with their weights."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: int):
        part = (slice(3), slice(3, 8))[number]
        return IMAGES[part], CLASSES[part, None], WEIGHTS[part, None]


TRIPLES = (IMAGES, CLASSES, WEIGHTS)
NAMED = {"images": IMAGES, "labels": CLASSES, "sample_weight": WEIGHTS}


def batches_of(data) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(data).batch(4)


# Batches


@pytest.mark.parametrize("mixing", [None, CutNMix(2, num_classes=10, seed=0)])
def test_labels_of_any_form_train_alike(mixing):
    expected = made(mixing=mixing).train_on_batch(IMAGES, CLASSES)
    for labels in (CLASSES[:, None], CLASSES.astype("float32"), CLASSES.astype("uint8"), ONE_HOT):
        assert made(mixing=mixing).train_on_batch(IMAGES, labels) == expected


def test_dictionaries_train_as_triples_do():
    found = made().fit(batches_of(NAMED), verbose=0).history["loss"]
    assert found == made().fit(batches_of(TRIPLES), verbose=0).history["loss"]


@pytest.mark.long
def test_a_model_goes_on_with_columns_after_plain_labels():
    model = OnlineDistiller([tiny_peer(), tiny_peer()], CutNMix(2, num_classes=10, seed=0))
    model.compile(keras.optimizers.SGD(0.0))
    first = losses(model, IMAGES, CLASSES)
    model.step.assign(0)
    assert losses(model, IMAGES, CLASSES[:, None]) == pytest.approx(first, rel=1e-5)


# Weights


@pytest.mark.parametrize("of_classes", [False, True])
@pytest.mark.parametrize("mixing", [None, CutNMix(2, num_classes=10, seed=3)])
def test_a_sample_counts_in_the_cross_entropy_as_its_weights_say(mixing, of_classes):
    classes = OF_CLASSES if of_classes else np.ones(10, "float32")
    method = Method("cutnmix", class_weights=OF_CLASSES.tolist() if of_classes else ())
    model, step = made(method, mixing), tf.constant(0, tf.int64)
    weighted, views = ONE_HOT * WEIGHTS[:, None] * classes, [IMAGES, IMAGES]
    if mixing:
        draw = mixing.draw(step, (8, 8, 8))
        share = 1 - np.prod(draw.boxes[:, 0, 2:], axis=-1)[:, None] / 64
        weighted = share * weighted + (1 - share) * weighted[draw.partner]
        mixed = mixing({"images": IMAGES, "labels": ONE_HOT}, training=True, step=step)
        views = np.moveaxis(mixed["images"], 1, 0)
    logits = [p(v, training=True)["logits"] for p, v in zip(model.peers, views, strict=True)]
    log_p = [tf.nn.log_softmax(z).numpy() for z in logits]
    expected = sum(-np.mean(np.sum(weighted * p, axis=1)) for p in log_p)
    found = model.train_on_batch(*TRIPLES, return_dict=True)
    assert found["cross_entropy"] == pytest.approx(expected, rel=1e-4)
    plain = made("cutnmix", mixing).train_on_batch(IMAGES, CLASSES, return_dict=True)
    assert found["teacher"] == pytest.approx(plain["teacher"], rel=1e-5)


def test_weights_of_classes_are_those_of_their_samples():
    by_class = {number: float(number) for number in range(10)}
    weighted = made().train_on_batch(IMAGES, CLASSES, class_weight=by_class)
    assert weighted == made().train_on_batch(IMAGES, CLASSES, CLASSES.astype("float32"))


@pytest.fixture(scope="module")
def model() -> OnlineDistiller:
    return made()


def as_keras_says(model: OnlineDistiller) -> dict[str, float]:
    """What Keras says of the predictions of a model's networks."""
    predictions = model.predict_each(IMAGES)
    loss = keras.losses.SparseCategoricalCrossentropy()
    figures = {"loss": float(loss(CLASSES, predictions["teacher"], WEIGHTS))}
    for name, probabilities in predictions.items():
        accuracy = keras.metrics.SparseCategoricalAccuracy()
        accuracy.update_state(CLASSES, probabilities, WEIGHTS)
        figures[f"{name}_accuracy"] = float(accuracy.result())
    return figures


def validated(model: OnlineDistiller, data) -> dict[str, float]:
    """What `fit` says of validation data, in which classes have no weights."""
    by_class = {number: number / 9 for number in range(10)}
    logs = model.fit(IMAGES, CLASSES, verbose=0, validation_data=data, class_weight=by_class)
    of_validation = {n: v[0] for n, v in logs.history.items() if n.startswith("val_")}
    return {name.removeprefix("val_"): value for name, value in of_validation.items()}


EVALUATE = {"verbose": 0, "return_dict": True}


@pytest.mark.parametrize(
    "evaluate",
    [
        lambda m: m.evaluate(IMAGES, CLASSES, 3, sample_weight=WEIGHTS, **EVALUATE),
        lambda m: m.evaluate(IMAGES, CLASSES[:, None], sample_weight=WEIGHTS[:, None], **EVALUATE),
        lambda m: m.evaluate(IMAGES, ONE_HOT, 5, 0, WEIGHTS, return_dict=True),
        lambda m: m.evaluate(batches_of(NAMED), **EVALUATE),
        lambda m: m.evaluate(Batches(), **EVALUATE),
        lambda m: m.test_on_batch(*TRIPLES, return_dict=True),
        lambda m: validated(m, TRIPLES),
        lambda m: validated(m, Batches()),
    ],
    ids=[
        *("arrays", "columns", "soft", "dictionaries", "PyDataset", "batch"),
        *("validation arrays", "validation PyDataset"),
    ],
)
def test_samples_are_evaluated_as_keras_does_by_their_weights(evaluate, model):
    found = evaluate(model)
    expected = as_keras_says(model)
    assert len(set(expected.values())) > 2
    assert found == pytest.approx(expected, rel=1e-4)


def test_weights_that_are_of_another_shape_or_that_a_method_cannot_keep_are_refused():
    data = tf.data.Dataset.from_tensors((IMAGES, CLASSES, np.ones((8, 10), "float32")))
    with pytest.raises(ValueError, match=r"weights must be \[B\] or \[B, 1\]\. Rec.*\(8, 10\)"):
        made().fit(data, verbose=0)
    with pytest.raises(ValueError, match="dlb remembers the last batch, but not"):
        made(Method("dlb", batch_size=8)).train_on_batch(*TRIPLES)


# Fitting


@pytest.mark.parametrize("kind", ["one", "positional", "list"])
def test_callbacks_are_called_and_stay_the_callers(kind):
    seen = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    callbacks = {
        "one": callback,
        "positional": [callback],
        "list": keras.callbacks.CallbackList([callback, keras.callbacks.History()]),
    }[kind]
    for _ in range(2):
        made().fit(IMAGES, CLASSES, 8, 1, 0, callbacks)
    assert seen == [0, 0]
    assert kind != "list" or len(callbacks.callbacks) == 2


def test_more_accuracy_is_better():
    callback = keras.callbacks.EarlyStopping("val_teacher_accuracy")
    losses(made(), IMAGES, CLASSES, validation_data=(IMAGES, CLASSES), callbacks=callback)
    assert callback.mode == "max"
    assert callback.best >= 0


def test_held_out_images_may_come_as_arrays_in_batches_and_as_a_part():
    learned = []
    for data in (TRIPLES, Batches()):
        model = made("kdcl_general")
        losses(model, IMAGES, CLASSES, validation_data=data)
        learned.append(model.parts[0].get_weights()[0])
    model, weights = made("kdcl_general"), np.concatenate([np.ones(len(IMAGES)), TRIPLES[2]])
    images, labels = (
        np.concatenate([a, b]) for a, b in ((IMAGES, TRIPLES[0]), (CLASSES, TRIPLES[1]))
    )
    losses(model, images, labels, sample_weight=weights, validation_split=0.5)
    learned.append(model.parts[0].get_weights()[0])
    assert np.ptp(learned[0]) > 1e-3
    np.testing.assert_allclose(learned[1:], [learned[0]] * 2, rtol=1e-4)


# What layers of the peers add to the loss by themselves

KERNEL, ACTIVITY, ADDED = 0.01, 0.003, 0.5


class Adding(keras.layers.Layer):
    """Adds the mean square of its inputs to the loss, and nothing to them."""

    def call(self, inputs):
        self.add_loss(ADDED * tf.reduce_mean(tf.square(inputs)))
        return inputs


def adding_peer(regularised: bool, sides: tuple[int | None, int | None] = (8, 8)) -> keras.Model:
    images = keras.Input((*sides, 3))
    x = keras.layers.Rescaling(1 / 255)(images)
    settings = {
        "kernel_regularizer": keras.regularizers.L2(KERNEL),
        "activity_regularizer": keras.regularizers.L1(ACTIVITY),
    }
    maps = keras.layers.Conv2D(4, 3, name="maps", **settings if regularised else {})(x)
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(Adding()(maps)))
    return adapt(model, 10, stages={"stage1": "maps"})


@pytest.mark.parametrize("how", [{"run_eagerly": True}, {"jit_compile": True}])
@pytest.mark.parametrize("shared", [False, True])
def test_regularizers_and_added_losses_are_a_term_of_the_loss(shared, how):
    peers = [adding_peer(True), adding_peer(False)]
    peers = share_stages(peers, "stage1") if shared else peers
    model = OnlineDistiller(peers, method="independent")
    model.compile(keras.optimizers.SGD(1.0), **how)
    expected, kernels = 0.0, []
    for number, network in enumerate(peers):
        kernel, bias = network.get_layer("maps").get_weights()
        windows = np.lib.stride_tricks.sliding_window_view(IMAGES / 255, (3, 3, 3), (1, 2, 3))
        maps = np.einsum("bhwkijc,ijcd->bhwd", windows, kernel) + bias
        expected += ADDED * np.mean(np.square(maps))
        if number == 0:
            # Keras divides what it sums over a batch's activities by the batch.
            expected += KERNEL * np.sum(np.square(kernel)) + ACTIVITY * np.abs(maps).sum() / 8
        kernels.append(kernel)
    logs = model.train_on_batch(IMAGES, np.full(8, 3), return_dict=True)
    assert logs["peers_losses"] == pytest.approx(expected, rel=1e-4)
    assert logs["loss"] == pytest.approx(logs["cross_entropy"] + logs["peers_losses"], rel=1e-5)


def test_the_losses_of_peers_have_gradients():
    network = adding_peer(False)
    network.get_layer("maps").kernel.regularizer = keras.regularizers.L2(1e3)
    before = np.abs(network.get_layer("maps").get_weights()[0]).sum()
    model = OnlineDistiller([network], method="independent")
    model.compile(keras.optimizers.SGD(1e-4), run_eagerly=True)
    model.train_on_batch(IMAGES, CLASSES)
    assert np.abs(network.get_layer("maps").get_weights()[0]).sum() < 0.9 * before


@pytest.mark.parametrize("sides", [(None, None), (8, None)])
def test_peers_of_any_size_may_have_layers_of_ones_own(sides):
    assert "peers_losses" in OnlineDistiller([adding_peer(False, sides)]).term_names
    assert made().term_names == ["cross_entropy"]


# Pipelines


def test_an_iterator_goes_on_from_its_checkpoint_within_a_pass(tmp_path):
    pairs = tf.data.Dataset.from_tensor_slices((IMAGES, CLASSES)).batch(2)
    mixed = pairs.apply(mix_dataset(CutMix(num_classes=10, seed=0))).repeat(2)
    iterator = iter(mixed)
    for _ in range(5):  # into the second pass
        next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).save(tmp_path / "iterator")
    rest = [images.numpy() for images, _ in iterator]
    restored = iter(mixed)
    tf.train.Checkpoint(iterator=restored).restore(path)
    np.testing.assert_array_equal([images for images, _ in restored], rest)
