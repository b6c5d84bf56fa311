"""What is no batch of images and labels is refused."""

import numpy as np
import pytest
import tensorflow as tf

from tests.mixing.batches import NUM_CLASSES, photos
from tf_cutnmix import CutMix, CutNMix, cutnmix, mix_dataset
from tf_cutnmix.mixing.batch import soft_labels


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bounding_boxes": np.zeros([6, 2, 4])}, "'bounding_boxes'.*take them out"),
        ({"segmentation_masks": np.zeros([6, 5, 8])}, "'segmentation_masks'.*take them out"),
        ({"images": np.zeros([5, 8, 3])}, r"images must be \[B, H, W, C\].*\(5, 8, 3\)"),
        ({"images": np.zeros([6, 2, 1, 5, 8, 3])}, r"or views \[B, n, H, W, C\].*\(6, 2, 1, 5"),
        ({"images": np.zeros([6, 3, 5, 8, 3])}, r"must be num_peers=2.*\(6, 3, 5, 8, 3\)"),
        ({"labels": np.eye(1, 10)}, r"as many as images.*\(6, 5, 8, 3\), labels of \(1, 10\)"),
        ({"labels": np.zeros(6)}, r"one-hot or soft \[B, K\].*float64 labels of shape \(6,\)"),
        ({"labels": np.zeros([6, 2, 5])}, r"one-hot or soft \[B, K\].*\(6, 2, 5\)"),
        ({"labels": np.eye(6, 10) > 0}, r"one-hot or soft \[B, K\].*bool"),
        ({"labels": np.full([6, 10], "cat")}, r"one-hot or soft \[B, K\].*string"),
        ({"labels": np.zeros([6, 1], "int32")}, r"\[B, 1\] hold one class: drop.*int32"),
        ({"labels": np.eye(6, 4)}, r"num_classes=10 columns.*\(6, 4\)"),
        ({"labels": np.full([6, 10], np.nan)}, "labels must be finite numbers.*nan"),
    ],
)
def test_batch_that_cannot_be_mixed_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        CutNMix(num_classes=NUM_CLASSES)(photos(labels="one-hot") | changes)


def test_integer_labels_without_num_classes_are_refused():
    with pytest.raises(ValueError, match=r"integer labels need num_classes.*int64"):
        CutMix()(photos(labels="integer"))


def test_one_column_is_accepted_where_there_is_one_class():
    labels = CutMix(num_classes=1)(photos() | {"labels": np.ones([6, 1])})["labels"]
    np.testing.assert_array_equal(labels, np.ones([6, 1]))


@pytest.mark.parametrize(
    ("batch", "words"),
    [({"images": photos()["images"]}, r"\['images'\]"), (tuple(photos().values()), "tuple")],
)
def test_what_has_no_images_and_labels_is_refused(batch, words):
    with pytest.raises(ValueError, match=f"needs a dictionary with 'images' and 'labels'.*{words}"):
        CutMix(num_classes=NUM_CLASSES)(batch)


def test_images_of_unknown_rank_are_refused():
    @tf.function(input_signature=[tf.TensorSpec(None), tf.TensorSpec([None], tf.int32)])
    def mix(images, labels):
        return cutnmix(images, labels, step=0, num_classes=NUM_CLASSES)

    with pytest.raises(ValueError, match="the rank known"):
        mix.get_concrete_function()


@pytest.mark.parametrize(
    ("label", "dtype"),
    [(-1, "int8"), (2**40, "int64"), (2**63 + 3, "uint64")],
)
def test_label_out_of_range_is_named_eagerly_in_a_graph_and_in_a_dataset(label, dtype):
    labels = np.array([0, 1, 2, 3, 4, label], dtype)
    batch, layer = photos() | {"labels": labels}, CutMix(num_classes=NUM_CLASSES, seed=0)
    words = r"labels must be whole numbers from 0 to num_classes - 1 = 9\. Received:\]? \[?"
    with pytest.raises(ValueError, match=f"^{words}{label}$"):
        cutnmix(batch["images"], labels, step=0, num_classes=NUM_CLASSES)
    in_a_graph = tf.function(lambda batch: layer(batch, step=0), autograph=False)
    dataset = tf.data.Dataset.from_tensors(batch)
    for mix in (
        lambda: in_a_graph(batch),
        lambda: list(dataset.apply(mix_dataset(layer, jit_compile=dtype == "uint64"))),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"{words}{label}\\b"):
            mix()


@pytest.mark.parametrize("dtype", [tf.int32, tf.uint8, tf.int64])
def test_xla_compiles_once_whatever_the_labels_are(dtype):
    compiled = tf.function(lambda y: soft_labels(y, 5), jit_compile=True, autograph=False)
    program = compiled.experimental_get_compiler_ir(tf.zeros([4], dtype))(stage="hlo")
    assert "entry_computation_layout={()" not in program
