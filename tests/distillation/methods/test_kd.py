"""A frozen teacher: an export of this package."""

import json
import pathlib
import shutil
import types
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax

from tests.tiny_peers import CLASSES, tiny_peer
from tf_cutnmix.distillation.method import Forward
from tf_cutnmix.distillation.methods.kd import FrozenTeacher
from tf_cutnmix.errors import InputError

EXPORT = str(pathlib.Path(__file__).parents[3] / "savedmodels" / "digits_resnet8" / "1")
DIGITS = list("0123456789")


def images_of(seed: int, size: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (4, size, size, 3)).astype("uint8")


def forward_of(*views) -> Forward:
    return Forward(tf.constant(0), tf.zeros([4, CLASSES]), [tf.constant(v) for v in views], [])


@pytest.fixture(scope="module")
def answer() -> Callable[[np.ndarray], np.ndarray]:
    """Logits of the export for images."""
    export = tf.saved_model.load(EXPORT)
    serve = export.signatures["serving_default"]
    return lambda images: (export, serve(tf.constant(images))["logits"].numpy())[1]


@pytest.fixture(scope="module")
def frozen() -> FrozenTeacher:
    return FrozenTeacher([EXPORT], [tiny_peer()])


@pytest.mark.long
def test_it_predicts_of_each_view_what_its_export_predicts(frozen: FrozenTeacher, answer) -> None:
    """Of pixels that are no whole numbers too, and of another size."""
    views = [images_of(1), images_of(2), images_of(3).astype("f4") + 0.25, images_of(4, size=12)]
    found = tf.function(lambda f: frozen(f))(forward_of(*views))
    assert frozen.variables == []
    for logits, view in zip(found, views, strict=True):
        expected = answer(view.astype("uint8"))
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_several_predict_their_mean_probability_in_the_order_of_the_names(answer, tmp_path) -> None:
    """The second, named by its run, has two classes the other way round."""
    other = shutil.copytree(EXPORT, tmp_path / "savedmodels" / "1")
    (tmp_path / "result.json").write_text(json.dumps({"exports": {"teacher": str(other)}}))
    (other / "assets" / "class_names.txt").write_text("\n".join([*DIGITS[:8], "9", "8"]))
    # A cycle of three: an order that is not its own inverse.
    order = [3, 1, 0, 2, 4, 5, 6, 9, 8, 7]
    view, names = images_of(1), [str(digit) for digit in order]
    (logits,) = FrozenTeacher([EXPORT, str(tmp_path)], [tiny_peer()], names)(forward_of(view))
    one = softmax(np.float64(answer(view)), -1)
    expected = (one + one[:, [*range(8), 9, 8]])[:, order] / 2
    np.testing.assert_allclose(logits, np.log(expected), rtol=1e-4, atol=1e-4)


def test_it_sees_whole_numbers_rounded_to_nearest_and_in_range(frozen, monkeypatch) -> None:
    seen = []

    def predict(images: tf.Tensor) -> dict:
        seen.append(images)
        return {"logits": tf.zeros([1, CLASSES])}

    monkeypatch.setattr(frozen, "teachers", [types.SimpleNamespace(predict=predict)])
    view = np.float32([0.4, 0.6, 7.0, 99.9, 254.7, 255.4, -0.4, -3.0, 300.0])
    frozen(forward_of(view.reshape(1, 3, 3, 1) * np.ones([1, 1, 1, 3], "float32")))
    (images,) = seen
    assert images.dtype == tf.uint8
    expected = [0, 1, 7, 100, 255, 255, 0, 0, 255]
    np.testing.assert_array_equal(np.reshape(images[..., 0], -1), expected)


def test_xla_cannot_compile_it_and_keras_is_told(frozen: FrozenTeacher) -> None:
    assert not frozen.supports_jit
    with pytest.raises(tf.errors.InvalidArgumentError, match="unsupported operations"):
        tf.function(lambda f: frozen(f), jit_compile=True)(forward_of(images_of(0)))


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        ((), 7, "tells 10 classes apart and the data have 7"),
        (DIGITS[:7], 7, "it has '7', '8', '9', they have no others"),
        (["zero", *DIGITS[1:]], 10, "it has '0', they have 'zero'; rename them, or pass --cl"),
    ],
)
def test_a_teacher_of_other_classes_is_refused(names, classes: int, message: str) -> None:
    images = keras.Input((8, 8, 3))
    features = keras.layers.GlobalAveragePooling2D()(images)
    outputs = {"features": features, "logits": keras.layers.Dense(classes)(features)}
    with pytest.raises(InputError, match=message):
        FrozenTeacher([EXPORT], [keras.Model(images, outputs)], names)


def test_a_folder_that_is_no_export_is_refused(tmp_path: pathlib.Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "result.json").write_text(json.dumps({"exports": {}}))
    for folder, message in {
        tmp_path / "nowhere": "--teacher=.*nowhere: there is no such folder",
        tmp_path: r"holds no saved_model\.pb$",
        run: "that run exported nothing",
    }.items():
        with pytest.raises(InputError, match=message):
            FrozenTeacher([str(folder)], [tiny_peer()])
