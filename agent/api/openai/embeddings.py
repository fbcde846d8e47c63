"""`/v1/embeddings`: texts to vectors."""

import base64
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from agent.api.callers import Role
from agent.api.http.messages import Answer, Operation, Request, Route, json_response
from agent.api.openai.errors import ErrorBody, problem_response
from agent.api.openai.requests import decoded
from agent.api.texts import Texts
from agent.errors import BadPayload
from agent.tasks.embedding.encoder import MAX_WINDOW, Embedded, Text
from agent.types import Array

MAX_REQUEST = 8 * 2**20  # bytes
MAX_INPUTS = 2048  # texts of a request, as OpenAI's
MAX_TOKENS = 300_000  # ids of a request that brings its own, as OpenAI's
ANSWER_S = 60.0

Ids = Annotated[list[int], Meta(min_length=1, max_length=MAX_WINDOW)]
Many = Annotated[list[str | int | Ids], Meta(min_length=1, max_length=MAX_WINDOW)]


class EmbeddingRequest(Struct):
    """Texts that are to become vectors; unknown fields are ignored, as OpenAI does.

    `dimensions` may only be what the model has: its vectors are not cut.
    """

    model: str
    input: str | Many
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None

    def texts(self) -> list[Text]:
        """Each text, or its token ids.

        Raises:
            BadPayload: a mixture, an empty text, or too many.
        """
        given = [self.input] if isinstance(self.input, str) else self.input
        if all(isinstance(item, int) for item in given):
            return [given]  # type: ignore[list-item]
        if len(given) > MAX_INPUTS:
            raise BadPayload(f"at most {MAX_INPUTS} texts in a request", where="input")
        if len({type(item) for item in given}) != 1:
            raise BadPayload("texts and token ids in one request", where="input")
        if "" in given:
            raise BadPayload("an empty text has no meaning", where=f"input[{given.index('')}]")
        if sum(len(item) for item in given if isinstance(item, list)) > MAX_TOKENS:
            raise BadPayload(f"at most {MAX_TOKENS} token ids in a request", where="input")
        return given  # type: ignore[return-value]


_EMBEDDING = Operation(
    "Texts as vectors", body=EmbeddingRequest, answer=dict[str, Any], error=ErrorBody
)


class Embeddings:
    """Texts to vectors."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    def routes(self) -> list[Route]:
        """The path."""
        bounds = (MAX_REQUEST, ANSWER_S)
        fixed = ("POST", "/v1/embeddings", self.embed, Role.APP)
        return [Route(*fixed, *bounds, problem_response, _EMBEDDING)]

    async def embed(self, request: Request) -> Answer:
        asked = decoded(request.body, EmbeddingRequest)
        made = await self._texts.embed(asked.model, asked.texts())
        width = made.vectors.shape[1]
        if asked.dimensions not in {None, width}:
            raise BadPayload(f"this model's vectors have {width} elements", where="dimensions")
        return json_response(_answer(asked, made))


def _answer(asked: EmbeddingRequest, made: Embedded) -> dict[str, Any]:
    shown = _base64 if asked.encoding_format == "base64" else _listed
    data = [
        {"object": "embedding", "index": number, "embedding": shown(vector)}
        for number, vector in enumerate(made.vectors)
    ]
    usage = {"prompt_tokens": made.tokens, "total_tokens": made.tokens}
    return {"object": "list", "model": asked.model, "data": data, "usage": usage}


def _listed(vector: Array) -> Any:
    return vector.tolist()


def _base64(vector: Array) -> str:
    """Little-endian float32, as OpenAI's clients read it."""
    return base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode()
