"""Answer one request with an export, using TensorFlow alone, as a serving program would.

    python -P serve_once.py SAVEDMODEL request.npz answer.npz

The request holds `images` and `bytes`; the answer holds the main output of each signature.
This file is run by its path, never imported, so that the package stays out of the process.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf


def main(savedmodel: str, request: str, answer: str) -> None:
    """Load the export, answer the request, write the answer."""
    signatures = tf.saved_model.load(savedmodel).signatures
    with np.load(request, allow_pickle=True) as content:
        images = tf.constant(content["images"])
        files = tf.constant(content["bytes"].tolist())
    if "tf_cutnmix" in sys.modules:
        raise RuntimeError("the package was imported: this would prove nothing")
    np.savez(
        answer,
        serving_default=signatures["serving_default"](images=images)["probabilities"],
        serve_bytes=signatures["serve_bytes"](bytes=files)["probabilities"],
        features=signatures["features"](images=images)["features"],
        portable=signatures["portable"](images=images)["probabilities"],
        fixed_size=signatures["fixed_size"](images=tf.cast(images, tf.float32))["probabilities"],
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
