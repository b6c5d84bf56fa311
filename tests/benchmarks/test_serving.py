"""An export of a run behind a real server."""

import concurrent.futures
import pathlib
import subprocess
import urllib.error

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import serving
from tests.runs.short_runs import ALONE, run

pytestmark = pytest.mark.bench


@pytest.mark.slow
def test_a_server_answers_picture_files_as_the_export_of_a_run_does(tmp_path):
    try:
        serving.environment()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{serving.REQUIREMENTS[0]} cannot be installed here: {error.stderr!r:.200}")
    places = {"export": "peer", "export_dir": str(tmp_path / "savedmodels")}
    finished = run(tmp_path / "run", ALONE, epochs=1, **places)
    version = pathlib.Path(finished.result["exports"]["peer"])
    broken = b"no picture"
    files = [*serving.pictures(15), broken]
    served = tf.saved_model.load(str(version)).signatures["serve_bytes"]
    expected = {name: v.numpy() for name, v in served(bytes=tf.constant(files)).items()}
    with serving.server(version) as url:
        together = serving.ask(url, files)
        assert set(together) == set(expected)
        for name, values in expected.items():
            # MLServer makes a column of a list.
            found = np.reshape(together[name], values.shape)
            np.testing.assert_allclose(found, values, rtol=1e-4, atol=1e-6)
        assert together["valid"].ravel().tolist() == [True] * 15 + [False]

        with concurrent.futures.ThreadPoolExecutor(8) as clients:
            apart = list(clients.map(lambda file: serving.ask(url, [file]), files * 4))
        for number, answer in enumerate(apart):
            row = expected["probabilities"][number % 16]
            np.testing.assert_allclose(answer["probabilities"][0], row, rtol=1e-4, atol=1e-6)
    with pytest.raises(urllib.error.URLError):
        serving.ask(url, files[:1])
