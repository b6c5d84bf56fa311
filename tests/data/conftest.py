"""What several tests of this wing rely on."""

import pathlib

import pytest

from tests.data.pictures import noise, plain, store_tfds, write_class


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
