"""What is no batch of images and labels is refused."""

import numpy as np
import pytest
import tensorflow as tf

from tests.mixing.batches import NUM_CLASSES, photos
from tf_cutnmix import CutMix, CutNMix, MixUp, cutnmix, mix_dataset
from tf_cutnmix.mixing.batch import soft_labels


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bounding_boxes": np.zeros([6, 2, 4])}, "'bounding_boxes'.*take them out"),
        ({"images": np.zeros([5, 8, 3])}, r"images must be a batch \[B, H, W, C\].*\(5, 8, 3\)"),
        ({"images": np.zeros([6, 2, 1, 5, 8, 3])}, r"or views \[B, n, H, W, C\].*\(6, 2, 1, 5"),
        ({"images": np.zeros([6, 3, 5, 8, 3])}, r"must be num_peers=2.*\(6, 3, 5, 8, 3\)"),
        (
            {
                "images": np.zeros([6, 2, 5, 8, 3]),
                "segmentation_masks": np.zeros([6, 5, 8], "int32"),
            },
            r"views.*cannot be mixed with segmentation_masks.*\(6, 2, 5, 8, 3\)",
        ),
        ({"segmentation_masks": np.zeros([5, 8])}, r"segmentation_masks must be.*\(5, 8\)"),
        ({"segmentation_masks": np.zeros([6, 5, 8, 2, 1])}, "segmentation_masks must be"),
        ({"segmentation_masks": np.zeros([6, 3, 4])}, "segmentation_masks"),
        ({"labels": np.eye(1, 10)}, r"as many as images.*\(1, 10\) for images \(6, 5, 8, 3\)"),
        ({"labels": np.zeros(6)}, r"one-hot or soft \[B, K\].*float64 labels of shape \(6,\)"),
        ({"labels": np.zeros([6, 2, 5])}, r"one-hot or soft \[B, K\].*\(6, 2, 5\)"),
        ({"labels": np.eye(6, 10) > 0}, r"one-hot or soft \[B, K\].*bool"),
        ({"labels": np.full([6, 10], "cat")}, r"one-hot or soft \[B, K\].*string"),
    ],
)
def test_batch_that_cannot_be_mixed_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        CutNMix(num_classes=NUM_CLASSES)(photos(labels="one-hot") | changes)


@pytest.mark.parametrize("num_classes", [None, NUM_CLASSES])
def test_labels_of_one_column_are_refused(num_classes):
    batch = photos() | {"labels": np.zeros([6, 1], "int32")}
    with pytest.raises(ValueError, match=r"\[B, 1\] hold one class: drop the last axis.*int32"):
        CutMix(num_classes=num_classes)(batch)


def test_integer_labels_without_num_classes_are_refused():
    with pytest.raises(ValueError, match=r"integer labels need num_classes.*int64"):
        CutMix()(photos(labels="integer"))


def test_labels_with_another_number_of_columns_are_refused():
    with pytest.raises(ValueError, match=r"num_classes=4 columns.*\(6, 10\)"):
        CutMix(num_classes=4)(photos(labels="one-hot"))


def test_one_column_is_accepted_where_there_is_one_class():
    labels = CutMix(num_classes=1)(photos() | {"labels": np.ones([6, 1])})["labels"]
    np.testing.assert_array_equal(labels, np.ones([6, 1]))


@pytest.mark.parametrize("missing", ["images", "labels"])
def test_dictionary_without_images_or_labels_is_refused(missing):
    batch = photos()
    del batch[missing]
    with pytest.raises(ValueError, match=r"needs a dictionary with 'images' and 'labels'.*\['"):
        CutMix(num_classes=NUM_CLASSES)(batch)


def test_pair_is_refused_by_the_layer():
    with pytest.raises(ValueError, match=r"needs a dictionary.*Received: tuple"):
        CutMix(num_classes=NUM_CLASSES)(tuple(photos().values()))


def test_images_of_unknown_rank_are_refused():
    @tf.function(input_signature=[tf.TensorSpec(None), tf.TensorSpec([None], tf.int32)])
    def mix(images, labels):
        return cutnmix(images, labels, step=0, num_classes=NUM_CLASSES)

    with pytest.raises(ValueError, match="the rank known"):
        mix.get_concrete_function()


def test_mixup_refuses_masks_of_class_numbers():
    batch = photos(segmentation_masks=np.zeros([6, 5, 8], "int32"))
    with pytest.raises(ValueError, match=r"MixUp.*int32 class numbers.*use CutMix"):
        MixUp(num_classes=NUM_CLASSES)(batch)


@pytest.mark.parametrize(
    ("label", "dtype"),
    [
        *[(-1, "int8"), (-(2**63), "int64"), (NUM_CLASSES, "int32"), (2**40, "int64")],
        *[(255, "uint8"), (2**32 + 3, "uint64"), (2**63 + 3, "uint64"), (2**64 - 1, "uint64")],
    ],
)
def test_label_out_of_range_is_named_eagerly_in_a_graph_and_in_a_dataset(label, dtype):
    labels = np.array([0, 1, 2, 3, 4, label], dtype)
    batch, layer = photos() | {"labels": labels}, CutMix(num_classes=NUM_CLASSES, seed=0)
    words = r"labels must be whole numbers from 0 to num_classes - 1 = 9\. Received:\]? \[?"
    with pytest.raises(ValueError, match=f"^{words}{label}$"):
        cutnmix(batch["images"], labels, step=0, num_classes=NUM_CLASSES)
    with pytest.raises(ValueError, match=f"{words}{label}\\b"):
        layer(batch)
    in_a_graph = tf.function(lambda batch: layer(batch, step=0), autograph=False)
    dataset = tf.data.Dataset.from_tensors(batch)
    for mix in (
        lambda: in_a_graph(batch),
        lambda: list(dataset.map(lambda batch: layer(batch, step=0))),
        lambda: list(dataset.apply(mix_dataset(layer, jit_compile=label == 2**63 + 3))),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"{words}{label}\\b"):
            mix()


@pytest.mark.parametrize("dtype", [tf.int32, tf.uint8, tf.int64])
def test_xla_compiles_once_whatever_the_labels_are(dtype):
    compiled = tf.function(lambda y: soft_labels(y, 5), jit_compile=True, autograph=False)
    program = compiled.experimental_get_compiler_ir(tf.zeros([4], dtype))(stage="hlo")
    assert "entry_computation_layout={()" not in program
