"""Data: every source ends as the same arrays, in an order that (seed, epoch) alone decides."""

import pathlib
import tracemalloc
import types

import hypothesis
import hypothesis.strategies as st
import numpy as np
import psutil
import pytest
import sklearn.datasets
import tensorflow as tf
import tensorflow_datasets as tfds

from tf_cutnmix import data
from tf_cutnmix.errors import InputError

tfds.disable_progress_bar()


def plain(value: int, height: int = 4, width: int = 5, channels: int = 3) -> np.ndarray:
    return np.full((height, width, channels), value, np.uint8)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (height, width, channels), np.uint8)


def write(path: pathlib.Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tf.io.encode_png(image).numpy())


def write_class(folder: pathlib.Path, values: range) -> None:
    """One plain image for each value, in files whose order is that of the values."""
    for value in values:
        write(folder / f"{value:03}.png", plain(value))


def values(images: data.Images) -> list[int]:
    """What the plain images of a folder are filled with."""
    return images.pixels[:, 0, 0, 0].tolist()


def numbered(count: int) -> data.Images:
    """Images whose pixels and labels are their positions."""
    positions = np.arange(count)
    pixels = np.broadcast_to(positions[:, None, None, None], (count, 2, 3, 3)).astype(np.uint8)
    return data.Images(pixels, positions.astype(np.int32), ("a", "b"))


def epochs_of(count: int, batch_size: int, epochs: int, **settings: int) -> list[list[int]]:
    """The positions that each epoch of shuffled batches shows, from pixels and labels alike."""
    steps = count // batch_size
    batches = data.shuffled_batches(numbered(count), batch_size, **settings).take(steps * epochs)
    pixels, labels = zip(*batches.as_numpy_iterator(), strict=True)
    np.testing.assert_array_equal(np.concatenate(pixels)[:, 1, 2, 0], np.concatenate(labels))
    return np.reshape(labels, (epochs, steps * batch_size)).tolist()


def triangle_weights(before: int, after: int) -> np.ndarray:
    """The matrix of an anti-aliased linear resize along one axis."""
    scale = before / after
    centres = (np.arange(after)[:, None] + 0.5) * scale
    distances = np.abs(np.arange(before)[None] + 0.5 - centres) / max(scale, 1.0)
    weights = np.maximum(0.0, 1.0 - distances)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def digits_train() -> data.Images:
    return data.load("digits", "train")


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Ten cats, 0 to 9, and ten dogs, 10 to 19; 4, 9, 14 and 19 are the test split."""
    folder = tmp_path_factory.mktemp("pets")
    write_class(folder / "cat", range(10))
    write_class(folder / "dog", range(10, 20))
    return folder


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Small data sets on disk, as TFDS prepares them: cifar100, mnist and tf_flowers."""
    folder = str(tmp_path_factory.mktemp("tensorflow_datasets"))
    store_tfds(
        folder,
        "cifar100",
        [
            {"id": str(i), "image": plain(i, 32, 32), "label": 99 - i, "coarse_label": i}
            for i in range(6)
        ],
        names=[f"fine_{i}" for i in range(100)],
    )
    store_tfds(folder, "mnist", [{"image": noise(28, 28, 1), "label": 3}])
    store_tfds(
        folder, "tf_flowers", [{"image": plain(i, 20, 20 + i // 2), "label": i} for i in range(4)]
    )
    return folder


def store_tfds(folder: str, name: str, examples: list[dict], names: list[str] = ()) -> None:
    builder = tfds.builder(name, data_dir=folder, try_gcs=False)
    features = builder.info.features
    if names:
        features["label"].names = names
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(examples), output_signature=dict(features.get_tensor_spec())
    )
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version=str(builder.version),
        data_dir=folder,
        features=features,
        split_datasets={"train": dataset},
        disable_shuffling=True,
    )


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine seems to have next to no free memory."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(available=1000))


# Digits


def test_digits_are_those_of_scikit_learn(digits_train: data.Images) -> None:
    source = sklearn.datasets.load_digits()
    expected = np.round(source.images[:1437] / 16 * 255)
    assert digits_train.pixels.shape == (1437, 8, 8, 3)
    assert digits_train.pixels.dtype == np.uint8
    for channel in range(3):
        np.testing.assert_array_equal(digits_train.pixels[..., channel], expected)
    np.testing.assert_array_equal(digits_train.labels, source.target[:1437])
    assert digits_train.labels.dtype == np.int32
    assert digits_train.class_names == tuple("0123456789")


def test_the_last_360_digits_are_the_test_split() -> None:
    source = sklearn.datasets.load_digits()
    test = data.load("digits", "test")
    assert test.pixels.shape == (360, 8, 8, 3)
    np.testing.assert_array_equal(test.labels, source.target[-360:])
    np.testing.assert_array_equal(test.pixels[..., 0], np.round(source.images[-360:] / 16 * 255))


@pytest.mark.parametrize(
    ("split", "part"),
    [
        ("train[:20]", slice(0, 20)),
        ("train[75%:]", slice(1078, 1437)),
        ("train[-10:]", slice(1427, 1437)),
    ],
)
def test_digits_take_tfds_splits(split: str, part: slice, digits_train: data.Images) -> None:
    images = data.load("digits", split)
    np.testing.assert_array_equal(images.pixels, digits_train.pixels[part])
    np.testing.assert_array_equal(images.labels, digits_train.labels[part])


def test_image_size_resizes_digits(digits_train: data.Images) -> None:
    images = data.load("digits", "train[:5]", image_size=12)
    np.testing.assert_array_equal(images.pixels, data.resize(digits_train.pixels[:5], (12, 12)))


# Splits


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 15, 16, 17, 18]),
        ("test", [4, 9, 14, 19]),
        ("train[:5]", [0, 1, 2, 3, 5]),
        ("train[2:4]", [2, 3]),
        ("train[50%:]", [10, 11, 12, 13, 15, 16, 17, 18]),
        ("train[-3:]", [16, 17, 18]),
        ("train[:-14]+test", [0, 1, 4, 9, 14, 19]),
        ("test[50%:]+train[:1]", [14, 19, 0]),
    ],
)
def test_folders_take_tfds_splits(split: str, expected: list[int], pets: pathlib.Path) -> None:
    images = data.load(str(pets), split)
    assert values(images) == expected
    assert images.labels.tolist() == [value // 10 for value in expected]


@pytest.mark.parametrize("source", ["digits", "pets", "cifar100"])
@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("trian", "trian"),
        ("train[", "split"),
        ("", "split"),
        ("train[:99999]", "99999"),
        ("train[2:2]", "selects no images"),
    ],
)
def test_bad_splits_are_input_errors(
    source: str, split: str, words: str, pets: pathlib.Path, tfds_dir: str
) -> None:
    dataset = str(pets) if source == "pets" else source
    with pytest.raises(InputError) as caught:
        data.load(dataset, split, data_dir=tfds_dir)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# TensorFlow Datasets


def test_cifar10_is_what_tfds_loads(cifar10_dir: str) -> None:
    images = data.load("cifar10", "train[:100]", data_dir=cifar10_dir)
    pixels, labels = tfds.load(
        "cifar10",
        split="train[:100]",
        data_dir=cifar10_dir,
        as_supervised=True,
        batch_size=-1,
        download=False,
    )
    assert images.pixels.shape == (100, 32, 32, 3)
    assert images.pixels.dtype == np.uint8
    np.testing.assert_array_equal(images.pixels, pixels)
    np.testing.assert_array_equal(images.labels, labels)
    names = "airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck"
    assert ", ".join(images.class_names) == names


def test_cifar100_has_its_hundred_fine_classes(tfds_dir: str) -> None:
    images = data.load("cifar100", "train", data_dir=tfds_dir)
    assert images.pixels.shape == (6, 32, 32, 3)
    assert values(images) == [0, 1, 2, 3, 4, 5]
    assert images.labels.tolist() == [99, 98, 97, 96, 95, 94]
    assert images.class_names == tuple(f"fine_{i}" for i in range(100))


def test_a_split_of_a_tfds_set_is_read_in_order(tfds_dir: str) -> None:
    images = data.load("cifar100", "train[4:]+train[:1]", data_dir=tfds_dir)
    assert values(images) == [4, 5, 0]


def test_grayscale_images_become_rgb(tfds_dir: str) -> None:
    images = data.load("mnist", "train", data_dir=tfds_dir)
    np.testing.assert_array_equal(images.pixels, [np.repeat(noise(28, 28, 1), 3, axis=-1)])
    assert images.labels.tolist() == [3]


def test_tfds_images_of_unlike_sizes_need_image_size(tfds_dir: str) -> None:
    with pytest.raises(InputError, match=r"image 2 of tf_flowers has 21x20 .* 20x20.*--image_size"):
        data.load("tf_flowers", "train", data_dir=tfds_dir)
    images = data.load("tf_flowers", "train", data_dir=tfds_dir, image_size=6)
    assert images.pixels.shape == (4, 6, 6, 3)
    assert values(images) == [0, 1, 2, 3]
    assert images.class_names == ("dandelion", "daisy", "tulips", "sunflowers", "roses")


@pytest.mark.parametrize("dataset", ["imdb_reviews", "coco", "div2k"])
def test_only_image_classification_can_be_trained(dataset: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match=f"{dataset} .*only image classification"):
        data.load(dataset, "train", data_dir=str(tmp_path))
    assert not list(tmp_path.iterdir()), "nothing is downloaded to find that out"


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="'cifar1O': did you mean 'cifar10'"):
        data.load("cifar1O", "train")


@pytest.mark.parametrize("dataset", ["zzzzqqqq", "my/pictures"])
def test_the_error_for_a_name_like_no_other_stays_readable(dataset: str) -> None:
    with pytest.raises(InputError, match=dataset) as caught:
        data.load(dataset, "train")
    assert len(str(caught.value)) < 300
    assert "folder" in str(caught.value)


def test_an_unknown_version_of_a_tfds_set_is_an_input_error() -> None:
    with pytest.raises(InputError, match="imagenet_resized/99x99"):
        data.load("imagenet_resized/99x99", "train")


def test_data_that_cannot_be_fetched_point_to_data_dir(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match=r"imagenet2012 is not in .*--data_dir") as caught:
        data.load("imagenet2012", "train", data_dir=str(tmp_path))
    assert str(tmp_path) in str(caught.value)


# Folders


def test_class_names_are_the_sorted_folders(pets: pathlib.Path) -> None:
    assert data.load(str(pets), "train").class_names == ("cat", "dog")


def test_train_and_test_folders_are_splits(tmp_path: pathlib.Path) -> None:
    for split, start in (("train", 0), ("test", 100), ("extra", 200)):
        write_class(tmp_path / split / "cat", range(start, start + 6))
        write_class(tmp_path / split / "dog", range(start + 6, start + 8))
    train, test = data.load(str(tmp_path), "train"), data.load(str(tmp_path), "test")
    assert values(train) == list(range(8))
    assert values(test) == list(range(100, 108))
    assert train.labels.tolist() == test.labels.tolist() == [0] * 6 + [1] * 2
    assert values(data.load(str(tmp_path), "extra[:2]")) == [200, 201]


def test_train_and_test_must_have_the_same_classes(tmp_path: pathlib.Path) -> None:
    for folder in ("train/cat", "train/dog", "test/cat", "test/fox"):
        write_class(tmp_path / folder, range(1))
    with pytest.raises(InputError, match=r"train and test differ .*'dog', 'fox'"):
        data.load(str(tmp_path), "train")


def test_an_empty_class_is_named(tmp_path: pathlib.Path) -> None:
    write_class(tmp_path / "cat", range(5))
    (tmp_path / "dog").mkdir()
    with pytest.raises(InputError, match="dog holds no images"):
        data.load(str(tmp_path), "train")


def test_one_class_is_too_few(tmp_path: pathlib.Path) -> None:
    write_class(tmp_path / "cat", range(5))
    with pytest.raises(InputError, match="'cat': 2 are needed"):
        data.load(str(tmp_path), "train")


def test_images_without_class_folders_are_an_input_error(tmp_path: pathlib.Path) -> None:
    write_class(tmp_path, range(5))
    with pytest.raises(InputError, match="holds no class sub-folders"):
        data.load(str(tmp_path), "train")


@pytest.mark.parametrize("dataset", ["./nowhere", "~/nowhere/at/all", "/nowhere/at/all"])
def test_a_missing_folder_is_an_input_error(dataset: str) -> None:
    with pytest.raises(InputError, match=f"--dataset={dataset}: there is no such folder"):
        data.load(dataset, "train")


def test_an_empty_name_is_not_the_working_directory(
    pets: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pets)
    with pytest.raises(InputError, match="--dataset"):
        data.load("", "train")


def test_hidden_folders_and_other_files_are_ignored(tmp_path: pathlib.Path) -> None:
    for folder in ("cat", "dog", ".thumbnails"):
        write_class(tmp_path / folder, range(2))
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "LICENSE").write_text("no folder")
    images = data.load(str(tmp_path), "train")
    assert images.class_names == ("cat", "dog")
    assert values(images) == [0, 1, 0, 1]


def test_hidden_files_are_ignored(tmp_path: pathlib.Path) -> None:
    for folder in ("cat", "dog"):
        write_class(tmp_path / folder, range(2))
    (tmp_path / "cat" / "._000.png").write_bytes(b"what macOS leaves beside a copied image")
    assert values(data.load(str(tmp_path), "train")) == [0, 1, 0, 1]


def test_endings_count_in_any_case(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "cat" / "0.PNG", plain(1))
    write(tmp_path / "dog" / "0.png", plain(2))
    assert values(data.load(str(tmp_path), "train")) == [1, 2]


def test_jpeg_grayscale_and_transparent_images_become_rgb(tmp_path: pathlib.Path) -> None:
    transparent = noise(4, 5, 4)
    jpeg = tf.io.encode_jpeg(noise(4, 5)).numpy()
    write(tmp_path / "a" / "grayscale.png", noise(4, 5, 1))
    (tmp_path / "a" / "photo.jpeg").write_bytes(jpeg)
    write(tmp_path / "b" / "transparent.png", transparent)
    images = data.load(str(tmp_path), "train")
    expected = [
        np.repeat(noise(4, 5, 1), 3, axis=-1),
        tf.io.decode_jpeg(jpeg).numpy(),
        transparent[..., :3],
    ]
    np.testing.assert_array_equal(images.pixels, expected)


@pytest.mark.parametrize("broken", ["cat/000.png", "dog/000.png", "dog/002.png"])
@pytest.mark.parametrize(
    "content",
    [
        b"a text file",
        b"",
        tf.io.encode_jpeg(noise(64, 64)).numpy()[:1500],
        tf.io.encode_png(noise(64, 64)).numpy()[:1500],
    ],
    ids=["text", "empty", "truncated JPEG", "truncated PNG"],
)
def test_a_broken_image_is_named(broken: str, content: bytes, tmp_path: pathlib.Path) -> None:
    write_class(tmp_path / "cat", range(3))
    write_class(tmp_path / "dog", range(3))
    (tmp_path / broken).write_bytes(content)
    with pytest.raises(InputError, match=f"{tmp_path / broken} cannot be "):
        data.load(str(tmp_path), "train", image_size=4)


def test_a_link_to_nowhere_is_named(tmp_path: pathlib.Path) -> None:
    write_class(tmp_path / "cat", range(3))
    write_class(tmp_path / "dog", range(3))
    link = tmp_path / "dog" / "link.png"
    link.symlink_to(tmp_path / "gone.png")
    with pytest.raises(InputError, match=str(link)):
        data.load(str(tmp_path), "train")


def test_images_of_unlike_sizes_need_image_size(tmp_path: pathlib.Path) -> None:
    write_class(tmp_path / "cat", range(2))
    write(tmp_path / "dog" / "wide.png", noise(4, 9))
    with pytest.raises(InputError, match=r"wide.png has 9x4 pixels .* 5x4: pass --image_size"):
        data.load(str(tmp_path), "train")
    images = data.load(str(tmp_path), "train", image_size=7)
    assert images.pixels.shape == (3, 7, 7, 3)
    np.testing.assert_array_equal(images.pixels[2], data.resize(noise(4, 9), (7, 7)))


def test_a_folder_may_have_the_name_of_a_tfds_set(
    tmp_path: pathlib.Path, tfds_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("mnist/one", "mnist/two", "pictures/cat", "pictures/dog"):
        write_class(tmp_path / folder, range(3))
    monkeypatch.chdir(tmp_path)
    assert data.load("./mnist", "train").class_names == ("one", "two")
    assert data.load("mnist/", "train").class_names == ("one", "two")
    assert data.load("pictures", "train").class_names == ("cat", "dog")
    assert len(data.load("mnist", "train", data_dir=tfds_dir).class_names) == 10


# What does not fit into memory


@pytest.mark.usefixtures("little_memory")
def test_images_beyond_half_the_memory_lie_on_disk(pets: pathlib.Path) -> None:
    images = data.load(str(pets), "train")
    assert isinstance(images.pixels, np.memmap)
    assert values(images) == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 15, 16, 17, 18]
    _, labels = zip(*data.ordered_batches(images, 5).as_numpy_iterator(), strict=True)
    assert np.concatenate(labels).tolist() == [0] * 8 + [1] * 8


def test_images_that_fit_lie_in_memory(pets: pathlib.Path) -> None:
    assert not isinstance(data.load(str(pets), "train").pixels, np.memmap)


@pytest.mark.usefixtures("little_memory")
def test_holding_out_does_not_fetch_the_images_into_memory() -> None:
    images = data.load("digits", "train", image_size=16)
    tracemalloc.start()
    train, validation = data.hold_out(images, 0.5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(train.pixels) + len(validation.pixels) == 1437
    assert peak < images.pixels.nbytes / 4


@pytest.mark.usefixtures("little_memory")
def test_images_beyond_the_disk_are_an_input_error(
    pets: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "disk_usage", lambda _: types.SimpleNamespace(free=10))
    with pytest.raises(InputError, match="lower --image_size or select fewer images"):
        data.load(str(pets), "train")


# Held-out images


@hypothesis.given(count=st.integers(2, 200), fraction=st.floats(0, 0.99))
def test_held_out_images_and_the_rest_are_all_images(count: int, fraction: float) -> None:
    train, validation = data.hold_out(numbered(count), fraction)
    assert len(validation.labels) == round(fraction * count)
    assert sorted([*train.labels, *validation.labels]) == list(range(count))
    for part in (train, validation):
        np.testing.assert_array_equal(part.pixels[:, 0, 0, 0], part.labels)


def test_held_out_images_are_the_same_in_every_run() -> None:
    first = data.hold_out(numbered(50), 0.2)[1].labels
    np.random.seed(123)
    data.hold_out(numbered(9), 0.5)
    np.testing.assert_array_equal(data.hold_out(numbered(50), 0.2)[1].labels, first)


def test_held_out_images_come_from_everywhere() -> None:
    held_out = data.hold_out(numbered(200), 0.5)[1].labels
    assert 30 < np.sum(held_out < 100) < 70


def test_nothing_is_held_out_of_fraction_0() -> None:
    train, validation = data.hold_out(numbered(10), 0.0)
    assert train.labels.tolist() == list(range(10))
    assert validation.pixels.shape == (0, 2, 3, 3)


# Batches


@hypothesis.given(count=st.integers(1, 40), batch_size=st.integers(1, 10), seed=st.integers(0, 99))
def test_no_image_comes_twice_in_an_epoch(count: int, batch_size: int, seed: int) -> None:
    hypothesis.assume(batch_size <= count)
    for epoch in epochs_of(count, batch_size, 2, seed=seed):
        assert len(set(epoch)) == len(epoch) == count - count % batch_size


def test_a_full_epoch_is_a_permutation() -> None:
    for epoch in epochs_of(24, 4, 3, seed=0):
        assert sorted(epoch) == list(range(24)) != epoch


def test_the_remainder_is_another_one_in_each_epoch() -> None:
    epochs = epochs_of(20, 8, 6, seed=0)
    assert len({frozenset(range(20)) - frozenset(epoch) for epoch in epochs}) == 6
    assert set().union(*epochs) == set(range(20))


def test_a_run_may_start_at_any_epoch() -> None:
    whole = epochs_of(20, 6, 4, seed=5)
    assert epochs_of(20, 6, 2, seed=5, first_epoch=2) == whole[2:]


def test_every_seed_and_epoch_has_its_own_order() -> None:
    orders = [tuple(epoch) for seed in range(4) for epoch in epochs_of(20, 5, 4, seed=seed)]
    assert len(set(orders)) == 16


def test_shuffled_batches_repeat_when_read_again() -> None:
    batches = data.shuffled_batches(numbered(10), 4, seed=1).take(5)
    first, second = ([y.tolist() for _, y in batches.as_numpy_iterator()] for _ in range(2))
    assert first == second


def test_shuffled_batches_have_a_static_shape() -> None:
    pixels, labels = data.shuffled_batches(numbered(10), 4, seed=0).element_spec
    assert pixels == tf.TensorSpec([4, 2, 3, 3], tf.uint8)
    assert labels == tf.TensorSpec([4], tf.int32)


@pytest.mark.parametrize(("batch_size", "sizes"), [(4, [4, 4, 2]), (5, [5, 5]), (20, [10])])
def test_ordered_batches_hold_all_images_once(batch_size: int, sizes: list[int]) -> None:
    batches = data.ordered_batches(numbered(10), batch_size)
    assert batches.cardinality() == len(sizes)
    pixels, labels = zip(*batches.as_numpy_iterator(), strict=True)
    assert [len(batch) for batch in labels] == sizes
    assert np.concatenate(labels).tolist() == list(range(10))
    np.testing.assert_array_equal(np.concatenate(pixels), numbered(10).pixels)


# Pixels


@pytest.mark.parametrize("size", [(3, 4), (8, 6), (13, 21), (1, 1)])
def test_resize_is_an_anti_aliased_linear_filter(size: tuple[int, int]) -> None:
    image = noise(8, 12)
    rows, columns = triangle_weights(8, size[0]), triangle_weights(12, size[1])
    expected = np.einsum("ih,jw,hwc->ijc", rows, columns, image.astype(np.float64))
    resized = data.resize(image, size).numpy()
    assert resized.dtype == np.uint8
    assert np.abs(resized - expected).max() < 0.501


def test_resize_to_the_same_size_changes_nothing() -> None:
    images = noise(8, 12)[None]
    np.testing.assert_array_equal(data.resize(images, (8, 12)), images)


@pytest.mark.parametrize("shape", [[None] * 4, [None, None, None, 3], [None, 8, 12, 3]])
def test_resize_in_a_graph_for_any_size_resizes_only_images_of_another(shape: list) -> None:
    resize = tf.function(
        lambda images: data.resize(images, (8, 12)),
        input_signature=[tf.TensorSpec(shape, tf.uint8)],
    )
    concrete = resize.get_concrete_function()
    assert concrete.output_shapes.as_list() == [None, 8, 12, shape[-1]]
    always = {operation.type for operation in concrete.graph.get_operations()}
    assert "ScaleAndTranslate" not in always
    images = noise(8, 12)[None]
    np.testing.assert_array_equal(resize(images), images)
    if shape[1] is None:
        other = noise(12, 8)[None]
        np.testing.assert_array_equal(resize(other), data.resize(other, (8, 12)))


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("digits", True),
        ("mnist", True),
        ("mnist:3.0.1", True),
        ("emnist/letters", True),
        ("svhn_cropped", True),
        ("cifar10", False),
        ("fashion_mnist", False),
        ("./digits", False),
    ],
)
def test_characters_have_a_direction(dataset: str, expected: bool) -> None:
    assert data.has_direction(dataset) is expected
