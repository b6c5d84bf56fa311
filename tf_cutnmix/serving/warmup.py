"""A first request for TensorFlow Serving, which answers it before it lets others in."""

import importlib.util
import pathlib

import numpy as np
import tensorflow as tf

_PLACE = "assets.extra/tf_serving_warmup_requests"


def write(savedmodel: pathlib.Path, images: np.ndarray) -> None:
    """Write a request to `serving_default`, where the extra `serving` is installed."""
    if importlib.util.find_spec("tensorflow_serving") is None:
        return
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = "serving_default"
    request.inputs["images"].CopyFrom(tf.make_tensor_proto(images))
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(request)
    place = savedmodel / _PLACE
    place.parent.mkdir()
    with tf.io.TFRecordWriter(str(place)) as writer:
        writer.write(log.SerializeToString())
