"""A frozen teacher: an export of this package."""

import json
import pathlib
import shutil
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax

from tests.distillation.methods.forwards import (
    EXPORT,
    forward_of,
    images_of,
)
from tests.tiny_peers import CLASSES, tiny_peer
from tf_cutnmix.distillation.method import Forward
from tf_cutnmix.distillation.methods.kd import FrozenTeacher
from tf_cutnmix.errors import InputError


@pytest.fixture(scope="module")
def frozen() -> FrozenTeacher:
    return FrozenTeacher([str(EXPORT)], [tiny_peer()])


def answer(images: np.ndarray) -> np.ndarray:
    export = tf.saved_model.load(str(EXPORT))
    return export.signatures["serving_default"](tf.constant(images))["logits"].numpy()


@pytest.mark.long
def test_the_frozen_teacher_says_of_each_view_what_its_export_says(
    frozen: FrozenTeacher,
) -> None:
    views = [images_of(seed=1), images_of(seed=2)]
    halfway = [view.astype("float32") + 0.25 for view in views]
    call = tf.function(lambda f: frozen(f))
    for given_views in (views, halfway):
        found = call(forward_of(given_views))
        for logits, view in zip(found, views, strict=True):
            np.testing.assert_allclose(logits, answer(view), rtol=1e-4, atol=1e-5)


def test_the_frozen_teacher_says_it_in_the_order_of_the_names() -> None:
    # A cycle of three: an order that is not its own inverse.
    names = [str(digit) for digit in (3, 1, 0, 2, 4, 5, 6, 9, 8, 7)]
    view = images_of(seed=1)
    (logits,) = FrozenTeacher([str(EXPORT)], [tiny_peer()], names)(forward_of([view]))
    expected = answer(view)[:, [int(name) for name in names]]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_several_teachers_say_what_their_mean_probability_is(tmp_path) -> None:
    """The second has two classes the other way round."""
    other = tmp_path / "other"
    shutil.copytree(EXPORT, other)
    names = list("0123456789")
    (other / "assets" / "class_names.txt").write_text("\n".join([*names[:8], "9", "8"]))
    view = images_of(seed=1)
    (logits,) = FrozenTeacher([str(EXPORT), str(other)], [tiny_peer()], names)(forward_of([view]))
    one = softmax(np.float64(answer(view)), -1)
    expected = (one + one[:, [*range(8), 9, 8]]) / 2
    np.testing.assert_allclose(logits, np.log(expected), rtol=1e-4, atol=1e-4)


def test_a_frozen_teacher_of_other_names_is_refused() -> None:
    names = ["zero", *map(str, range(1, 10))]
    with pytest.raises(InputError, match="it has '0', they have 'zero'; rename them, or pass --cl"):
        FrozenTeacher([str(EXPORT)], [tiny_peer()], names)


def test_the_frozen_teacher_resizes_views_of_another_size() -> None:
    part = FrozenTeacher([str(EXPORT)], [keras.Model(*_bigger())])
    view = images_of(size=12)
    np.testing.assert_allclose(part(forward_of([view]))[0], answer(view), rtol=1e-4, atol=1e-5)


def _bigger() -> tuple:
    images = keras.Input((12, 12, 3))
    features = keras.layers.GlobalAveragePooling2D()(images)
    return images, {"features": features, "logits": keras.layers.Dense(CLASSES)(features)}


def test_pixels_that_augmentation_pushed_out_of_range_do_not_wrap_around(
    frozen: FrozenTeacher,
) -> None:
    view = 3.0 * images_of().astype("float32") - 200
    expected = answer(np.clip(np.round(view), 0, 255).astype("uint8"))
    np.testing.assert_allclose(frozen(forward_of([view]))[0], expected, rtol=1e-4, atol=1e-5)


def test_xla_cannot_compile_the_frozen_teacher_and_keras_is_told(frozen: FrozenTeacher) -> None:
    assert not frozen.supports_jit
    with pytest.raises(tf.errors.InvalidArgumentError, match="unsupported operations"):
        tf.function(lambda f: frozen(f), jit_compile=True)(forward_of([images_of()]))


def test_nothing_in_the_frozen_teacher_is_trained(frozen: FrozenTeacher) -> None:
    assert frozen.variables == []
    view = tf.constant(images_of(), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(view)
        total = tf.reduce_sum(frozen(forward_of([])._replace(views=[view]))[0])
    assert tape.gradient(total, view) is None


def test_a_teacher_of_other_classes_is_refused() -> None:
    images = keras.Input((8, 8, 3))
    features = keras.layers.GlobalAveragePooling2D()(images)
    peer = keras.Model(images, {"features": features, "logits": keras.layers.Dense(7)(features)})
    with pytest.raises(InputError, match="tells 10 classes apart and the data have 7"):
        FrozenTeacher([str(EXPORT)], [peer])
    with pytest.raises(InputError, match="it has '7', '8', '9', they have no others"):
        FrozenTeacher([str(EXPORT)], [peer], tuple("0123456"))


def test_a_teacher_may_be_named_by_its_run(tmp_path: pathlib.Path) -> None:
    own = shutil.copytree(EXPORT, tmp_path / "savedmodels" / "1")
    (tmp_path / "result.json").write_text(json.dumps({"exports": {"teacher": str(own)}}))
    part = FrozenTeacher([str(tmp_path)], [tiny_peer()])
    view = images_of()
    np.testing.assert_allclose(part(forward_of([view]))[0], answer(view), rtol=1e-4, atol=1e-5)


def test_a_teacher_that_is_not_there_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match=r"--teacher=.*nowhere: there is no such folder"):
        FrozenTeacher([str(tmp_path / "nowhere")], [tiny_peer()])


def test_a_folder_without_an_export_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match=r"holds no saved_model\.pb"):
        FrozenTeacher([str(tmp_path)], [tiny_peer()])


def test_a_folder_of_versions_is_refused_with_their_names(tmp_path: pathlib.Path) -> None:
    for version in ("1", "2"):
        shutil.copytree(EXPORT, tmp_path / version)
    with pytest.raises(InputError, match="name a version in it: 1, 2"):
        FrozenTeacher([str(tmp_path)], [tiny_peer()])


def test_a_run_that_exported_no_teacher_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"exports": {}}))
    with pytest.raises(InputError, match="that run exported no teacher"):
        FrozenTeacher([str(tmp_path)], [tiny_peer()])


TEACHER = pathlib.Path(__file__).parents[3] / "savedmodels" / "digits_resnet8" / "1"


def test_the_frozen_teacher_sees_whole_numbers_rounded_to_nearest_and_in_range():
    part = FrozenTeacher([str(TEACHER)], [tiny_peer()])
    seen = []

    def predict(images):
        seen.append(images)
        return {"logits": tf.zeros([1, CLASSES])}

    part.teachers = [types.SimpleNamespace(predict=predict)]
    view = np.float32([0.4, 0.6, 7.0, 99.9, 254.7, 255.4, -0.4, -3.0, 300.0])
    view = view.reshape(1, 3, 3, 1) * np.ones([1, 1, 1, 3], "float32")
    forward = Forward(tf.constant(0), tf.zeros([1, CLASSES]), [tf.constant(view)], [])
    part(forward)
    (images,) = seen
    assert images.dtype == tf.uint8
    expected = [0, 1, 7, 100, 255, 255, 0, 0, 255]
    np.testing.assert_array_equal(np.reshape(images[..., 0], -1), expected)
