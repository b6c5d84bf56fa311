"""An export behind MLServer, with TensorFlow alone.

A request has one input, `bytes`: picture files, each in base64. The answer is that of the
export's signature `serve_bytes`. MLServer imports this file from the folder of the model.
"""

import asyncio

import tensorflow as tf
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse


class Export(MLModel):
    """The SavedModel at the settings' `uri`."""

    async def load(self) -> bool:
        self.served = tf.saved_model.load(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        files = tf.constant(Base64Codec.decode_input(payload.inputs[0]))
        serve = self.served.signatures["serve_bytes"]
        try:
            answer = await asyncio.to_thread(serve, bytes=files)
        except tf.errors.InvalidArgumentError as error:
            raise InferenceError(error.message) from error
        outputs = [NumpyCodec.encode_output(name, v.numpy()) for name, v in answer.items()]
        return InferenceResponse(model_name=self.name, id=payload.id, outputs=outputs)
