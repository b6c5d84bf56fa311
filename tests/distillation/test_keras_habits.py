"""What a Keras user types does what Keras does, or is refused in a line."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_peers import tiny_peer
from tf_cutnmix import CutMix, CutNMix, Method, OnlineDistiller, adapt, mix_dataset
from tf_cutnmix.errors import DivergenceError
from tf_cutnmix.serving import export

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3)).astype("uint8")
CLASSES = np.arange(8) % 10
WEIGHTS = np.linspace(0, 1.5, 8).astype("float32")
# Of which the networks of `made` get some right.
RIGHT = np.array([2, 0, 2, 1, 2, 2, 6, 2])


def made(method="independent", mixing=None, **settings) -> OnlineDistiller:
    random.seed(7)
    model = OnlineDistiller([tiny_peer(), tiny_peer()], mixing, method, **settings)
    model.compile(keras.optimizers.SGD(0.05), run_eagerly=True)
    return model


def losses(model: OnlineDistiller, *data, **settings) -> list[float]:
    return model.fit(*data, batch_size=4, shuffle=False, verbose=0, **settings).history["loss"]


# Batches


@pytest.mark.parametrize(
    "data",
    [
        (IMAGES, CLASSES[:, None]),
        (IMAGES, CLASSES.astype("float32")),
        (IMAGES, CLASSES.astype("uint8")),
        (IMAGES, keras.utils.to_categorical(CLASSES, 10)),
    ],
    ids=["columns", "floats", "bytes", "one-hot"],
)
def test_labels_of_any_form_train_alike(data):
    assert losses(made(), *data) == losses(made(), IMAGES, CLASSES)


def test_dictionaries_train_as_pairs_do():
    named = tf.data.Dataset.from_tensor_slices({"images": IMAGES, "labels": CLASSES}).batch(4)
    found = made().fit(named, verbose=0).history["loss"]
    assert found == losses(made(), IMAGES, CLASSES)


def test_class_numbers_must_be_whole():
    with pytest.raises(ValueError, match=r"must be whole numbers .* = 9\. Received: \d\.5$"):
        losses(made(), IMAGES, CLASSES + 0.5)


@pytest.mark.long
def test_a_model_goes_on_with_columns_after_plain_labels():
    model = OnlineDistiller([tiny_peer(), tiny_peer()], CutNMix(2, num_classes=10, seed=0))
    model.compile(keras.optimizers.SGD(0.0))
    first = losses(model, IMAGES, CLASSES)
    model.step.assign(0)
    assert losses(model, IMAGES, CLASSES[:, None]) == pytest.approx(first, rel=1e-5)


# Weights


def test_a_sample_counts_in_the_cross_entropy_as_its_weight_says():
    model = made()
    logits = [model.peers[k](IMAGES, training=True)["logits"].numpy() for k in (0, 1)]
    found = model.fit(
        IMAGES, CLASSES, sample_weight=WEIGHTS, batch_size=8, shuffle=False, verbose=0
    ).history["cross_entropy"]
    log_p = [z - np.log(np.exp(z).sum(axis=1, keepdims=True)) for z in logits]
    expected = sum(-np.mean(WEIGHTS * p[np.arange(8), CLASSES]) for p in log_p)
    assert found == pytest.approx([expected], rel=1e-4)


def test_the_weights_of_mixed_samples_are_mixed_as_their_labels_are():
    mixing = CutNMix(2, num_classes=10, seed=3)
    model = made(mixing=mixing)
    batch = {"images": IMAGES, "labels": keras.utils.to_categorical(CLASSES, 10)}
    draw = mixing.draw(tf.constant(0, tf.int64), (8, 8, 8))
    share = 1 - np.prod(draw.boxes[:, 0, 2:], axis=-1) / 64
    mixed = mixing(batch, training=True, step=tf.constant(0, tf.int64))
    own, partner = (batch["labels"] * WEIGHTS[:, None])[[range(8), draw.partner]]
    counted = share[:, None] * own + (1 - share[:, None]) * partner
    views = mixed["images"].numpy()
    log_p = [
        tf.nn.log_softmax(model.peers[k](views[:, k], training=True)["logits"]).numpy()
        for k in (0, 1)
    ]
    expected = sum(-np.mean(np.sum(counted * p, axis=1)) for p in log_p)
    found = model.fit(
        IMAGES, CLASSES, sample_weight=WEIGHTS, batch_size=8, shuffle=False, verbose=0
    ).history["cross_entropy"]
    assert found == pytest.approx([expected], rel=1e-4)


def test_weights_of_classes_are_those_of_their_samples():
    by_class = {number: float(number) for number in range(10)}
    by_sample = CLASSES.astype("float32")
    weighted = losses(made(), IMAGES, CLASSES, class_weight=by_class)
    assert weighted == losses(made(), IMAGES, CLASSES, sample_weight=by_sample)


@pytest.fixture(scope="module")
def model() -> OnlineDistiller:
    return made()


def as_keras_says(model: OnlineDistiller) -> dict[str, float]:
    """What Keras says of the predictions of a model's teacher."""
    plain = keras.Sequential([keras.Input((10,)), keras.layers.Identity()])
    plain.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy("teacher_accuracy")],
        run_eagerly=True,
    )
    teacher = model.predict(IMAGES, verbose=0)
    return plain.evaluate(
        teacher, RIGHT, sample_weight=WEIGHTS, batch_size=3, verbose=0, return_dict=True
    )


def validated(model: OnlineDistiller, data) -> dict[str, float]:
    """What `fit` says of validation data, in which classes have no weights."""
    by_class = {number: number / 9 for number in range(10)}
    logs = model.fit(IMAGES, RIGHT, verbose=0, validation_data=data, class_weight=by_class).history
    return {name.removeprefix("val_"): value[0] for name, value in logs.items() if "val_" in name}


ONE_HOT = keras.utils.to_categorical(RIGHT, 10)
TRIPLES = (IMAGES, RIGHT, WEIGHTS)
TRIPLE_SET = tf.data.Dataset.from_tensor_slices(TRIPLES).batch(3)
NAMED_SET = tf.data.Dataset.from_tensor_slices(
    {"images": IMAGES, "labels": RIGHT, "sample_weight": WEIGHTS}
).batch(3)
EVALUATE = {"verbose": 0, "return_dict": True}


@pytest.mark.parametrize(
    "evaluate",
    [
        lambda m: m.evaluate(IMAGES, RIGHT, 3, sample_weight=WEIGHTS, **EVALUATE),
        lambda m: m.evaluate(IMAGES, RIGHT[:, None], sample_weight=WEIGHTS[:, None], **EVALUATE),
        lambda m: m.evaluate(
            IMAGES, keras.utils.to_categorical(RIGHT, 10), 5, 0, WEIGHTS, return_dict=True
        ),
        lambda m: m.evaluate(TRIPLE_SET, **EVALUATE),
        lambda m: m.evaluate(NAMED_SET, **EVALUATE),
        lambda m: m.evaluate(WeightedBatches(), **EVALUATE),
        lambda m: m.test_on_batch(*TRIPLES, return_dict=True),
        lambda m: validated(m, TRIPLES),
        lambda m: validated(m, TRIPLE_SET),
        lambda m: validated(m, WeightedBatches()),
    ],
    ids=[
        "arrays",
        "columns",
        "soft",
        "triples",
        "named",
        "PyDataset",
        "batch",
        "validation arrays",
        "validation triples",
        "validation PyDataset",
    ],
)
def test_samples_are_evaluated_as_their_weights_say(evaluate, model):
    found = evaluate(model)
    said = {name: p.numpy() for name, p in model.predict_each(IMAGES).items()}
    expected = {
        f"{name}_accuracy": np.average(p.argmax(axis=1) == RIGHT, weights=WEIGHTS)
        for name, p in said.items()
    }
    expected["loss"] = np.mean(-np.log(said["teacher"][np.arange(8), RIGHT]) * WEIGHTS)
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    keras_says = as_keras_says(model)
    assert {name: found[name] for name in keras_says} == pytest.approx(keras_says, rel=1e-4)


BAD_WEIGHTS = [
    {"sample_weight": np.where(np.arange(8) == 5, bad, 1.0)} for bad in (np.nan, np.inf, -np.inf)
]


@pytest.mark.parametrize(
    "weights", [*BAD_WEIGHTS, {"class_weight": {**dict.fromkeys(range(10), 1.0), 5: np.nan}}]
)
@pytest.mark.parametrize("how", ["fit", "train_on_batch"])
def test_weights_that_are_not_finite_are_told_as_such(how, weights):
    model = made()
    before = model.peers[0].get_weights()
    words = "step 0: the weight of a sample is not finite; .*sample_weight and class_weight are"
    with pytest.raises(DivergenceError, match=words):
        getattr(model, how)(IMAGES, CLASSES, **weights)
    for now, was in zip(model.peers[0].get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, was)


@pytest.mark.parametrize("weights", BAD_WEIGHTS)
def test_weights_that_are_not_finite_are_not_evaluated(weights, model):
    words = "^sample weights must be finite"
    with pytest.raises(ValueError, match=words):
        model.evaluate(IMAGES, CLASSES, verbose=0, **weights)
    with pytest.raises(ValueError, match=words):
        model.test_on_batch(IMAGES, CLASSES, **weights)
    with pytest.raises(ValueError, match=words):
        losses(model, IMAGES, CLASSES, validation_data=(IMAGES, CLASSES, *weights.values()))


@pytest.mark.parametrize("call", ["fit", "evaluate"])
def test_weights_of_another_shape_are_refused(call):
    data = tf.data.Dataset.from_tensors((IMAGES, CLASSES, np.ones((8, 10), "float32")))
    with pytest.raises(
        ValueError, match=r"sample weights must be \[B\] or \[B, 1\]. Rec.*\(8, 10\)"
    ):
        getattr(made(), call)(data, verbose=0)


def test_weights_that_a_method_or_a_mixing_cannot_keep_are_refused():
    with pytest.raises(ValueError, match="dlb remembers the last batch, but not"):
        losses(made(Method("dlb", batch_size=4)), IMAGES, CLASSES, sample_weight=WEIGHTS)
    foreign = made(mixing=keras.layers.CutMix())
    with pytest.raises(ValueError, match="CutMix does not say how it mixed"):
        losses(foreign, IMAGES, CLASSES, sample_weight=WEIGHTS)


# Compiling and fitting


@pytest.mark.parametrize(
    "settings",
    [{"loss": "mse"}, {"metrics": ["accuracy"]}, {"weighted_metrics": []}, {"loss_weights": [1]}],
)
def test_a_loss_and_metrics_are_refused_where_they_are_passed(settings):
    with pytest.raises(ValueError, match=f"compile it without {next(iter(settings))}"):
        OnlineDistiller([tiny_peer()], method="independent").compile("sgd", **settings)


def test_after_a_divergence_a_model_that_is_compiled_again_trains():
    model = made()
    model.optimizer.learning_rate = 1e38
    with pytest.raises(DivergenceError):
        losses(model, IMAGES, CLASSES, epochs=3)
    for peer in model.peers:
        peer.set_weights(tiny_peer().get_weights())
    model.compile(keras.optimizers.SGD(0.05), run_eagerly=True)
    assert np.isfinite(losses(model, IMAGES, CLASSES)).all()


def test_callbacks_may_stand_where_keras_has_them():
    seen = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    made().fit(IMAGES, CLASSES, 4, 1, 0, [callback])
    assert seen == [0]


@pytest.mark.parametrize("kind", [keras.callbacks.EarlyStopping, keras.callbacks.ReduceLROnPlateau])
def test_more_accuracy_is_better(kind):
    callback = kind("val_teacher_accuracy")
    losses(made(), IMAGES, CLASSES, validation_data=(IMAGES, CLASSES), callbacks=callback)
    assert callback.mode == "max"
    assert callback.best > 0 or callback.best == 0


class Batches(keras.utils.PyDataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: int):
        part = slice(4 * number, 4 * number + 4)
        return IMAGES[part], CLASSES[part, None]


class WeightedBatches(keras.utils.PyDataset):
    """Of 3 images and of 5, with their weights."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: int):
        part = (slice(3), slice(3, 8))[number]
        return IMAGES[part], RIGHT[part], WEIGHTS[part, None]


@pytest.mark.long
def test_held_out_images_may_come_in_every_way():
    whole = made("kdcl_general")
    losses(whole, IMAGES, CLASSES, validation_data=(IMAGES, CLASSES))
    learned = whole.parts[0].get_weights()
    streamed = made("kdcl_general")
    losses(streamed, IMAGES, CLASSES, validation_data=Batches())
    np.testing.assert_allclose(streamed.parts[0].get_weights(), learned, rtol=1e-4)
    split = made("kdcl_general")
    losses(split, *(np.concatenate([a, a]) for a in (IMAGES, CLASSES)), validation_split=0.5)
    np.testing.assert_allclose(split.parts[0].get_weights(), learned, rtol=1e-4)


# Layers from elsewhere


def test_layers_of_keras_augment_and_mix():
    model = made(mixing=keras.layers.CutMix(seed=0), augment=keras.layers.RandomFlip(seed=0))
    assert np.isfinite(losses(model, IMAGES, CLASSES)).all()


def lambda_peer() -> keras.Model:
    images = keras.Input((8, 8, 3))
    features = keras.layers.Lambda(lambda x: keras.ops.mean(x / 255.0, axis=(1, 2)))(images)
    logits = keras.layers.Dense(10)(features)
    return keras.Model(images, {"features": features, "logits": logits})


def test_peers_may_have_lambda_layers():
    model = OnlineDistiller([lambda_peer(), lambda_peer()], method="cutnmix")
    model.compile(keras.optimizers.SGD(0.05), run_eagerly=True)
    assert np.isfinite(losses(model, IMAGES, CLASSES)).all()


@pytest.mark.long
def test_a_peer_with_a_lambda_layer_is_exported(tmp_path):
    names = [str(number) for number in range(10)]
    peer = lambda_peer()
    version = export([peer], tmp_path / "lambda", names, IMAGES)
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    expected = tf.nn.softmax(peer(IMAGES)["logits"])
    np.testing.assert_allclose(served(images=IMAGES)["probabilities"], expected, atol=1e-5)


class Unsaved(keras.layers.Layer):
    def __init__(self, size):
        super().__init__()

    def call(self, inputs):
        return inputs


class OfUnsaved(keras.Model):
    def __init__(self, **options):
        images = keras.Input((8, 8, 3))
        super().__init__(images, Unsaved(3)(keras.layers.Conv2D(4, 3)(images)), **options)

    def get_config(self):
        return {"name": self.name}


def test_a_layer_that_cannot_be_copied_is_named():
    images = keras.Input((8, 8, 3))
    features = keras.layers.Flatten()(Unsaved(3)(images))
    peer = keras.Model(images, {"features": features, "logits": keras.layers.Dense(10)(features)})
    with pytest.raises(ValueError, match=r"the layer 'unsaved' \(Unsaved\) cannot be copied") as e:
        OnlineDistiller([peer], method="independent")
    assert "unexpected keyword argument 'trainable'" in str(e.value)
    assert "\n" not in str(e.value)


def test_a_model_that_can_be_copied_though_its_layers_cannot_is_kept_whole_in_another():
    whole = OfUnsaved()
    images = keras.Input((8, 8, 3))
    peer = adapt(keras.Model(images, whole(images)), 10)
    model = OnlineDistiller([peer], method="independent")
    np.testing.assert_array_equal(model.averages[0](IMAGES)["logits"], peer(IMAGES)["logits"])


# Pipelines


def test_a_layer_maps_pairs():
    mixing = CutMix(num_classes=10, seed=0)
    pairs = tf.data.Dataset.from_tensor_slices((IMAGES, CLASSES)).batch(8)
    ((images, labels),) = pairs.map(CutMix(num_classes=10, seed=0))
    mixed = mixing({"images": IMAGES, "labels": CLASSES}, training=True, step=0)
    np.testing.assert_array_equal(images, mixed["images"])
    np.testing.assert_allclose(labels, mixed["labels"], rtol=1e-6)


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


def test_a_layer_from_elsewhere_is_not_numbered():
    with pytest.raises(ValueError, match=r"map any other: dataset\.map"):
        mix_dataset(keras.layers.CutMix())


# Nothing at all


NOTHING = tf.data.Dataset.from_tensor_slices((IMAGES, CLASSES)).take(0).batch(4)


@pytest.mark.parametrize(
    "images",
    [
        IMAGES[:0],
        NOTHING.map(lambda images, labels: images),
        tf.data.Dataset.from_tensor_slices(IMAGES).batch(4).filter(lambda images: False),
    ],
    ids=["array", "data set", "filtered"],
)
def test_of_no_images_there_are_no_rows(images):
    answer = made().predict(images, verbose=0)
    assert answer.shape == (0, 10)
    assert answer.dtype == np.float32


@pytest.mark.usefixtures("convolved_nothing")
def test_each_network_says_nothing_of_nothing():
    assert {tuple(p.shape) for p in made().predict_each(IMAGES[:0]).values()} == {(0, 10)}


def test_another_error_in_predict_is_not_taken_for_no_images(monkeypatch):
    def broken(*args, **settings):
        raise UnboundLocalError("cannot access local variable 'mine'")

    monkeypatch.setattr(keras.Model, "predict", broken)
    with pytest.raises(UnboundLocalError, match="mine"):
        made().predict(IMAGES)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("data", [(IMAGES[:0], CLASSES[:0]), (NOTHING,)], ids=["arrays", "set"])
def test_nothing_is_not_evaluated(data):
    with pytest.raises(ValueError, match="nothing to evaluate: pass at least one labelled image"):
        made().evaluate(*data, verbose=0)


# Labels that are none

SOFT = np.full((8, 10), 0.1, "float32")


def spoilt(labels: np.ndarray, value: float) -> np.ndarray:
    """Labels whose last sample has another value, of a dtype that holds it."""
    labels = labels.astype(labels.dtype if np.isfinite(value) else "float32")
    labels[-1] = value
    return labels


NO_LABELS = {
    "NaN in soft ones": spoilt(SOFT, np.nan),
    "infinity in soft ones": spoilt(SOFT, np.inf),
    "NaN among numbers": spoilt(CLASSES, np.nan),
    "infinity among numbers": spoilt(CLASSES, np.inf),
    "a half": spoilt(CLASSES.astype("float32"), 0.5),
    "too large": spoilt(CLASSES, 10),
    "below 0": spoilt(CLASSES, -1),
    "far too large": spoilt(CLASSES, 2**40),
    "a float that is too large": spoilt(CLASSES.astype("float32"), 10),
    "a column that is too large": spoilt(CLASSES, 10)[:, None],
}
no_labels = pytest.mark.parametrize("labels", NO_LABELS.values(), ids=NO_LABELS)


@no_labels
def test_an_eager_step_refuses_what_are_no_labels(labels):
    model = made()
    before = [w.copy() for w in model.peers[0].get_weights()]
    with pytest.raises((DivergenceError, ValueError)):
        model.train_on_batch(IMAGES, labels)
    for now, was in zip(model.peers[0].get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, was)


@pytest.fixture(scope="module")
def compiled() -> OnlineDistiller:
    """By XLA, which drops every assertion."""
    model = OnlineDistiller([tiny_peer()], CutNMix(1, num_classes=10, seed=0), "independent")
    model.compile(keras.optimizers.SGD(0.05), jit_compile=True)
    return model


@no_labels
def test_a_compiled_step_is_not_taken_on_what_are_no_labels(compiled, labels):
    compiled.guard.forget()
    before = [w.copy() for w in compiled.peers[0].get_weights()]
    with pytest.raises(DivergenceError, match=r"the label of a sample is not finite.* Labels are"):
        compiled.train_on_batch(IMAGES, labels)
    for now, was in zip(compiled.peers[0].get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, was)


@pytest.mark.parametrize("name", ["NaN in soft ones", "infinity in soft ones", "too large"])
def test_what_are_no_labels_is_not_mixed(name):
    pairs = tf.data.Dataset.from_tensor_slices((IMAGES, NO_LABELS[name])).batch(8)
    mixed = pairs.apply(mix_dataset(CutMix(num_classes=10, seed=0)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="labels must be"):
        list(mixed)


def test_what_are_no_labels_is_not_evaluated():
    with pytest.raises(ValueError, match=r"^labels must be finite numbers\. Received: nan$"):
        made().evaluate(IMAGES, NO_LABELS["NaN in soft ones"], verbose=0)


def test_fit_leaves_the_callers_list_of_callbacks_as_it_was():
    model = made()
    callbacks = keras.callbacks.CallbackList([keras.callbacks.History()], model=model)
    for _ in range(2):
        model.fit(IMAGES, CLASSES, batch_size=8, verbose=0, callbacks=callbacks)
        assert len(callbacks.callbacks) == 1
