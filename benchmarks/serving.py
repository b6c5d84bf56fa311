"""Serving over HTTP: a real server with an export of a run, against the call in the process."""

import base64
import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks import cluster
from benchmarks.tables import Row

TITLE = (
    "Picture files of 8x8 pixels, one a request, to MLServer with the export "
    "savedmodels/digits_resnet8/1, from as many clients at once. In the process: the same "
    "signature on the same files, called one after another."
)
REQUIREMENTS = ("mlserver==1.7.1", "tensorflow==2.21.0")
EXPORT = pathlib.Path(__file__).parents[1] / "savedmodels" / "digits_resnet8" / "1"
_MODEL = pathlib.Path(__file__).with_name("mlserver_model.py")
_SECONDS_TO_START = 180


def rows(quick: bool) -> Iterator[Row]:
    """A row for each number of clients."""
    files = pictures(16)
    calls = 10 if quick else 400
    served = tf.saved_model.load(str(EXPORT)).signatures["serve_bytes"]
    alone = _seconds(
        lambda file: served(bytes=tf.constant([file]))["classes"].numpy(), files, calls
    )
    with server(EXPORT) as url:
        for clients in (2,) if quick else (1, 8):
            with concurrent.futures.ThreadPoolExecutor(clients) as pool:
                for file in files:
                    ask(url, [file])
                begin = time.perf_counter()
                requests = [files[number % len(files)] for number in range(calls)]
                seconds = list(pool.map(lambda file: _seconds_of(url, file), requests))
                passed = time.perf_counter() - begin
            yield {
                "clients": clients,
                "HTTP, median ms": float(f"{np.percentile(seconds, 50) * 1e3:.4g}"),
                "HTTP, 99 % ms": float(f"{np.percentile(seconds, 99) * 1e3:.4g}"),
                "HTTP, pictures/s": round(calls / passed),
                "in the process, median ms": float(f"{np.percentile(alone, 50) * 1e3:.4g}"),
                "in the process, pictures/s": round(calls / sum(alone)),
            }


def environment() -> pathlib.Path:
    """Python with the server, in an environment that is made once.

    Raises:
      subprocess.CalledProcessError: the server cannot be installed here.
    """
    if named := os.environ.get("TF_CUTNMIX_MLSERVER"):
        return pathlib.Path(named)
    folder = pathlib.Path(tempfile.gettempdir()) / f"tf_cutnmix-{'-'.join(REQUIREMENTS)}"
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        venv.create(folder, clear=True, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", *REQUIREMENTS]
        subprocess.run(install, check=True, capture_output=True)
        (folder / "installed").touch()
    return python


@contextlib.contextmanager
def server(savedmodel: pathlib.Path) -> Iterator[str]:
    """MLServer with an export: the address that answers, as long as the context lasts.

    Raises:
      RuntimeError: it does not start.
    """
    http, grpc, metrics = cluster.free_ports(3)
    python = environment()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        shutil.copy(_MODEL, folder)
        settings = {"http_port": http, "grpc_port": grpc, "metrics_port": metrics}
        settings |= {"host": "127.0.0.1", "parallel_workers": 0, "debug": False}
        model = {"name": "export", "implementation": f"{_MODEL.stem}.Export"}
        model |= {"parameters": {"uri": str(savedmodel.resolve())}}
        (folder / "settings.json").write_text(json.dumps(settings))
        (folder / "model-settings.json").write_text(json.dumps(model))
        clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        with open(folder / "log", "w+") as log:
            command = [python.parent / "mlserver", "start", folder]
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=clean)
            try:
                url = f"http://127.0.0.1:{http}/v2/models/export"
                if not _is_ready(f"{url}/ready", process):
                    raise RuntimeError(f"MLServer does not start: {(folder / 'log').read_text()}")
                yield f"{url}/infer"
            finally:
                process.terminate()
                process.wait(timeout=60)


def ask(url: str, files: Sequence[bytes]) -> dict[str, np.ndarray]:
    """What the server answers to picture files, by the name of the output.

    Raises:
      urllib.error.HTTPError: it answers with an error.
    """
    data = [base64.b64encode(file).decode() for file in files]
    content: Mapping[str, Any] = {
        "name": "bytes",
        "shape": [len(files)],
        "datatype": "BYTES",
        "parameters": {"content_type": "base64"},
        "data": data,
    }
    body = json.dumps({"inputs": [content]}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        outputs = json.loads(answer.read())["outputs"]
    return {one["name"]: np.reshape(one["data"], one["shape"]) for one in outputs}


def pictures(count: int) -> list[bytes]:
    """PNG files of 8x8 pixels."""
    images = np.random.default_rng(0).integers(0, 256, [count, 8, 8, 3], np.uint8)
    return [tf.io.encode_png(image).numpy() for image in images]


def _seconds_of(url: str, file: bytes) -> float:
    begin = time.perf_counter()
    ask(url, [file])
    return time.perf_counter() - begin


def _seconds(call: Any, files: Sequence[bytes], calls: int) -> list[float]:
    for file in files:
        call(file)
    seconds = []
    for number in range(calls):
        begin = time.perf_counter()
        call(files[number % len(files)])
        seconds.append(time.perf_counter() - begin)
    return seconds


def _is_ready(url: str, process: subprocess.Popen) -> bool:
    begin = time.monotonic()
    while process.poll() is None and time.monotonic() - begin < _SECONDS_TO_START:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    return False
