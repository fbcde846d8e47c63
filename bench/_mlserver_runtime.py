"""An ONNX model in MLServer, as its documentation has custom runtimes: no more work than it takes."""

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class OnnxModel(MLModel):
    """The session that the agent has, too: one thread."""

    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(self.settings.parameters.uri, options)
        self._names = [output.name for output in self._session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        feeds = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs}
        arrays = self._session.run(self._names, feeds)
        outputs = [
            NumpyCodec.encode_output(name, array)
            for name, array in zip(self._names, arrays, strict=True)
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)
