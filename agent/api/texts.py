"""Encoders behind the API: which texts go to which loaded model, in a thread."""

from collections.abc import Sequence
from functools import partial
from weakref import WeakKeyDictionary

from agent.api.inference import Inference
from agent.api.ports import ModelPort
from agent.errors import BadRequest
from agent.tasks.embedding.encoder import Embedded, Encoder, Text

TASK = "embedding"


class Texts:
    """Has encoders read texts. Used from one event loop; the library is imported with the first."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference
        self._encoders: WeakKeyDictionary[ModelPort, Encoder] = WeakKeyDictionary()

    async def embed(self, name: str, texts: Sequence[Text]) -> Embedded:
        """One vector for each text.

        Raises:
            BadRequest: the model is no encoder.
            BadPayload: a text that is too long, or an unknown token id.
            AgentError: as `Inference.loaded` and the model's run.
        """
        model = await self._inference.loaded(name, None)
        if model.manifest.task != TASK:
            message = f"the model makes no embeddings: its task is {model.manifest.task}"
            raise BadRequest(message, where="model")
        return await self._inference.beside(model, partial(self._embed, model, texts))

    def _embed(self, model: ModelPort, texts: Sequence[Text]) -> Embedded:
        with model.hold():
            return self._encoder(model).embed(model.run, texts)

    def _encoder(self, model: ModelPort) -> Encoder:
        # Two threads may make the same one at once; they are alike, and the later one stays.
        encoder = self._encoders.get(model)
        if encoder is None:
            encoder = self._encoders[model] = Encoder(model.manifest, model.companions)
        return encoder
