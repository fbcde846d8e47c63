"""Encoders and classifiers behind the API: which texts go to which loaded model, in a thread."""

from collections.abc import Sequence
from functools import partial
from weakref import WeakKeyDictionary

from agent.api.inference import Inference
from agent.api.ports import ModelPort
from agent.errors import BadRequest
from agent.tasks.classification.classifier import Classifier
from agent.tasks.classification.labels import Labelled
from agent.tasks.embedding.encoder import Embedded, Encoder, Text

EMBEDDING = "embedding"
CLASSIFICATION = "text-classification"


class Texts:
    """Has models read texts. Used from one event loop; the library is imported with the first."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference
        self._encoders: WeakKeyDictionary[ModelPort, Encoder] = WeakKeyDictionary()
        self._classifiers: WeakKeyDictionary[ModelPort, Classifier] = WeakKeyDictionary()

    async def embed(self, name: str, texts: Sequence[Text]) -> Embedded:
        """One vector for each text.

        Raises:
            BadRequest: the model is no encoder.
            BadPayload: a text that is too long, or an unknown token id.
            AgentError: as `Inference.loaded` and the model's run.
        """
        model = await self._loaded(name, EMBEDDING, "makes no embeddings")
        return await self._inference.beside(model, partial(self._embed, model, texts))

    async def classify(self, name: str, texts: Sequence[str], top: int) -> list[Labelled]:
        """What each text is about, with its `top` likeliest labels.

        Raises:
            BadRequest: the model is no classifier of texts.
            BadPayload: too many texts, or one that is empty or too long.
            AgentError: as `Inference.loaded` and the model's run.
        """
        model = await self._loaded(name, CLASSIFICATION, "classifies no texts")
        return await self._inference.beside(model, partial(self._classify, model, texts, top))

    async def _loaded(self, name: str, task: str, otherwise: str) -> ModelPort:
        model = await self._inference.loaded(name, None)
        if model.manifest.task != task:
            message = f"the model {otherwise}: its task is {model.manifest.task}"
            raise BadRequest(message, where="model")
        return model

    def _embed(self, model: ModelPort, texts: Sequence[Text]) -> Embedded:
        with model.hold():
            return self._encoder(model).embed(model.run, texts)

    def _encoder(self, model: ModelPort) -> Encoder:
        # Two threads may make the same one at once; they are alike, and the later one stays.
        encoder = self._encoders.get(model)
        if encoder is None:
            encoder = self._encoders[model] = Encoder(model.manifest, model.companions)
        return encoder

    def _classify(self, model: ModelPort, texts: Sequence[str], top: int) -> list[Labelled]:
        with model.hold():
            return self._classifier(model).classify(model.run, texts, top)

    def _classifier(self, model: ModelPort) -> Classifier:
        classifier = self._classifiers.get(model)
        if classifier is None:
            classifier = self._classifiers[model] = Classifier(model.manifest, model.companions)
        return classifier
