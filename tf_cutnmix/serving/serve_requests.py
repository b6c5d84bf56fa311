"""Answer requests with exports, using TensorFlow alone, as a serving program would.

Each line of the input is a JSON list of three paths: of a SavedModel, of a request that holds
`images` and `bytes`, and of the answer, which is to hold the main output of each signature. Each
line of the output says that an answer is written; what goes wrong ends the process.
This file's text is run, by `fresh`; it is never imported, so that the package stays out of the
process.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf


def main() -> None:
    """Answer request after request, until there are no more."""
    for line in sys.stdin:
        answer(*json.loads(line))
        print("answered", flush=True)


def answer(savedmodel: str, request: str, place: str) -> None:
    """Load the export, answer the request, write the answer."""
    signatures = tf.saved_model.load(savedmodel).signatures
    with np.load(request, allow_pickle=True) as content:
        images = tf.constant(content["images"])
        files = tf.constant(content["bytes"].tolist())
    if "tf_cutnmix" in sys.modules:
        raise RuntimeError("the package was imported: this would prove nothing")
    np.savez(
        place,
        serving_default=signatures["serving_default"](images=images)["probabilities"],
        serve_bytes=signatures["serve_bytes"](bytes=files)["probabilities"],
        features=signatures["features"](images=images)["features"],
        portable=signatures["portable"](images=images)["probabilities"],
        fixed_size=signatures["fixed_size"](images=tf.cast(images, tf.float32))["probabilities"],
    )


if __name__ == "__main__":
    main()
