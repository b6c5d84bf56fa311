"""What every test may rely on.

TensorFlow is imported where it is used: the process that hands the tests out does without.
"""

import contextlib
import gc
import os
import pathlib
import random
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# What XLA compiles here runs for a few steps: making its code faster takes longer than it saves.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")
# Commands find the networks of tests by name.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [
        str(pathlib.Path(__file__).parent / "own_networks"),
        *os.environ.get("PYTHONPATH", "").split(os.pathsep),
    ]
)

import hypothesis
import pytest

hypothesis.settings.register_profile("suite", deadline=None, max_examples=20, derandomize=True)
hypothesis.settings.load_profile("suite")

# The files that take longest begin first, so that none of them is what the others wait for.
LONGEST = (
    *("test_sweep", "test_docs", "test_experiment", "test_every_method", "test_bad_input"),
    *("test_gpu_bundle", "test_augment", "test_cache", "test_keras_habits", "test_progress"),
    *("test_replicas", "test_methods", "test_distiller", "test_folder", "test_registry"),
    *("test_layers", "test_guard", "test_families", "test_workers", "test_sharing"),
    "test_tutorial",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Only files change their places: the tests of each stay in their order."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


def pytest_collection_finish() -> None:
    """What is imported stays: the garbage collector need not look for it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def convolved_nothing() -> None:
    """TensorFlow convolves no images to none, which its oneDNN on some processors does not."""
    import tensorflow as tf

    if tf.nn.conv2d(tf.zeros([0, 4, 4, 3]), tf.zeros([3, 3, 3, 5]), 1, "SAME").shape[-1] != 5:
        pytest.skip("here TensorFlow gives the convolution of no images another shape")


# Keras takes the seeds of its layers from Python's random numbers. Its own way of seeding throws
# away all that TensorFlow has made ready to run, graphs too, for a seed that nothing here uses.


@pytest.fixture(scope="module", autouse=True)
def _seeded_module() -> None:
    """Fresh networks of module-wide fixtures are the same ones in every run."""
    random.seed(0)


@pytest.fixture(autouse=True)
def _seeded(_seeded_module) -> None:
    """So are those of a test, alone or in the suite."""
    random.seed(1)


@pytest.fixture(scope="session", autouse=True)
def _one_fresh_process() -> Iterator[None]:
    """Exports of all tests are tried in one process, which need not import TensorFlow again."""
    from tf_cutnmix.serving import fresh_process

    with fresh_process():
        yield


@contextlib.contextmanager
def _without_graphs() -> Iterator[None]:
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def eagerly() -> Iterator[None]:
    """No graphs in a test whose few steps are the same without, and sooner made."""
    with _without_graphs():
        yield


@pytest.fixture(scope="module")
def all_eagerly() -> Iterator[None]:
    """Nor in the tests of a file and their fixtures."""
    with _without_graphs():
        yield


@pytest.fixture(scope="session")
def cifar10_dir() -> str:
    """A folder in which TFDS finds CIFAR-10; the test is skipped where there is none."""
    places = [
        os.environ.get("TFDS_DATA_DIR", ""),
        pathlib.Path(__file__).parents[2] / "shared" / "data" / "tensorflow_datasets",
        pathlib.Path("~/tensorflow_datasets").expanduser(),
    ]
    for place in places:
        if place and (pathlib.Path(place) / "cifar10").is_dir():
            return str(place)
    pytest.skip("CIFAR-10 is not prepared for TFDS here; set TFDS_DATA_DIR to where it is")
