"""Formats of an export beside the SavedModel, one file a format.

Read `format` (what a format is), then any of them: `litert`, `litert_int8`, `onnx`, `openvino`.
"""

from tf_cutnmix.serving.formats import litert, litert_int8, onnx, openvino
from tf_cutnmix.serving.formats.format import Format

FORMATS = {one.FORMAT.name: one.FORMAT for one in (litert, litert_int8, onnx, openvino)}

__all__ = ["FORMATS", "Format"]
