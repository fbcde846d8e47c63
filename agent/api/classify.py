"""`/api/classify`: what texts are about."""

from typing import Annotated, TypedDict

from msgspec import Meta, Struct

from agent.api.callers import Role
from agent.api.http.messages import Answer, Operation, Request, Route, json_response
from agent.api.texts import Texts
from agent.tasks.classification.classifier import MAX_TEXT, MAX_TEXTS
from agent.tasks.classification.labels import MAX_LABELS, Labelled

MAX_REQUEST = 4 * 2**20  # bytes
MAX_TOP = MAX_LABELS  # labels told of each text
ANSWER_S = 60.0

Sentence = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
Many = Annotated[list[Sentence], Meta(min_length=1, max_length=MAX_TEXTS)]


class ClassifyRequest(Struct, forbid_unknown_fields=True):
    """A text, or a list of them, and how many labels of each are wanted."""

    model: str
    input: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)] | Many
    top: Annotated[int, Meta(ge=1, le=MAX_TOP)] = 3


class LabelAnswer(TypedDict):
    """A label and how sure the model is of it, 0 to 1."""

    label: str
    confidence: float


class ClassifiedText(TypedDict):
    """What a text is about: `label` is null where it is out of the model's scope.

    `confidence` is that of the best label in scope, whether it was good enough or not.
    """

    label: str | None
    confidence: float
    in_scope: bool
    labels: list[LabelAnswer]


class Classified(TypedDict):
    """Results in the order of the texts."""

    model: str
    results: list[ClassifiedText]


_CLASSIFY = Operation("What texts are about", body=ClassifyRequest, answer=Classified)


class Classification:
    """Texts to labels."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    def routes(self) -> list[Route]:
        """The path."""
        fixed = ("POST", "/api/classify", self.classify, Role.APP)
        return [Route(*fixed, MAX_REQUEST, ANSWER_S, operation=_CLASSIFY)]

    async def classify(self, request: Request) -> Answer:
        asked = request.decoded(ClassifyRequest)
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        found = await self._texts.classify(asked.model, texts, asked.top)
        return json_response({"model": asked.model, "results": [_told(each) for each in found]})


def _told(found: Labelled) -> ClassifiedText:
    labels: list[LabelAnswer] = [
        {"label": label, "confidence": round(share, 6)} for label, share in found.ranked
    ]
    return {
        "label": found.label,
        "confidence": round(found.confidence, 6),
        "in_scope": found.in_scope,
        "labels": labels,
    }
