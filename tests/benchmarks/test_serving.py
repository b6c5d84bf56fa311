"""An export of a run behind a real server."""

import concurrent.futures
import subprocess
import urllib.error

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import serving


@pytest.mark.slow
def test_a_server_answers_picture_files_as_the_export_does():
    try:
        serving.environment()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"{serving.REQUIREMENTS[0]} cannot be installed here: {error.stderr!r:.200}")
    files = serving.pictures(16)
    served = tf.saved_model.load(str(serving.EXPORT)).signatures["serve_bytes"]
    expected = {name: v.numpy() for name, v in served(bytes=tf.constant(files)).items()}
    with serving.server(serving.EXPORT) as url:
        together = serving.ask(url, files)
        assert set(together) == set(expected)
        for name, values in expected.items():
            # MLServer makes a column of a list.
            found = np.reshape(together[name], values.shape)
            np.testing.assert_allclose(found, values, rtol=1e-4, atol=1e-6)

        with concurrent.futures.ThreadPoolExecutor(8) as clients:
            apart = list(clients.map(lambda file: serving.ask(url, [file]), files * 4))
        for number, answer in enumerate(apart):
            np.testing.assert_allclose(
                answer["probabilities"][0], expected["probabilities"][number % 16], rtol=1e-4
            )

        with pytest.raises(urllib.error.HTTPError):
            serving.ask(url, [files[0][:40]])
        after = serving.ask(url, files[:1])
        np.testing.assert_allclose(after["logits"], expected["logits"][:1], rtol=1e-4)
    with pytest.raises(urllib.error.URLError):
        serving.ask(url, files[:1])
