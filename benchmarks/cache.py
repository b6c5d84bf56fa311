"""The cache of images: how soon a run has its first batch, without it and with it."""

import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_sample_images

from benchmarks.tables import Row

TITLE = (
    "Seconds until a run has its first batch, a process of its own each time, imports not counted: "
    "photos of 500 x 375 in JPEG, parts of scikit-learn's two, resized to 224 pixels, a tenth held "
    "out. Two at once begin with an empty cache. The last row is computed: as many bytes and "
    "seconds an image as the row above that fills the cache, times the training images of ImageNet."
)
_SIZE = 224
_IMAGENET = 1_281_167
_PROBE = """
import json, sys, time
from tf_cutnmix.runs import build, loading, plan
from tf_cutnmix.runs.config import Config
config = Config(dataset=sys.argv[1], cache_dir=sys.argv[2], image_size=int(sys.argv[3]))
print("ready", flush=True)
sys.stdin.readline()
start = time.perf_counter()
splits = loading.load_splits(config)
images, _ = next(plan.resolve(config, splits).batches(0).as_numpy_iterator())
print(json.dumps([time.perf_counter() - start, splits.checksums()]), flush=True)
"""


def rows(quick: bool) -> Iterator[Row]:
    """A row for each way to the first batch, and one that is computed from them."""
    count = 60 if quick else 3000
    with tempfile.TemporaryDirectory() as scratch:
        folder, cache, empty = (pathlib.Path(scratch) / name for name in ("photos", "one", "two"))
        _write_photos(folder, count)
        without = _seconds(folder, "")
        first, second = _seconds(folder, cache), _seconds(folder, cache)
        at_once = _seconds(folder, empty, processes=2)
        size = sum(path.stat().st_size for path in cache.rglob("*.npy"))
        for told, seconds in {
            "without": without,
            "the first with it, which fills it": first,
            "the second with it": second,
            "two at once, which fill it": at_once,
        }.items():
            yield _row(told, count, size / 1e9, seconds, without)
    part = _IMAGENET / count
    yield _row("computed: fill it with ImageNet", _IMAGENET, part * size / 1e9, part * first, None)


def _row(told: str, count: int, size: float, seconds: float, without: float | None) -> Row:
    return {
        "run": told,
        "images": count,
        "in the cache, GB": float(f"{size:.3g}"),
        "to the first batch, s": float(f"{seconds:.3g}"),
        "images/s": float(f"{count / seconds:.3g}"),
        "without / it": without and float(f"{without / seconds:.3g}"),
    }


def _seconds(folder: pathlib.Path, cache: pathlib.Path | str, processes: int = 1) -> float:
    """Until the last of some processes, which begin together, has its first batch."""
    command = [sys.executable, "-c", _PROBE, str(folder), str(cache), str(_SIZE)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(command, **pipes) for _ in range(processes)]
    for process in started:
        process.stdout.readline()
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]
    if any(sums != answers[0][1] for _, sums in answers):
        raise RuntimeError("the processes have read other images")
    return max(seconds for seconds, _ in answers)


def _write_photos(folder: pathlib.Path, count: int) -> None:
    """Parts of two photos, each a class, in files that differ."""
    random = np.random.default_rng(0)
    for name, photo in zip(("temple", "flower"), load_sample_images().images, strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(count // 2):
            top, left = random.integers(0, [photo.shape[0] - 375, photo.shape[1] - 500])
            part = tf.io.encode_jpeg(photo[top : top + 375, left : left + 500])
            (folder / name / f"{number}.jpg").write_bytes(part.numpy())
