"""The paths below `/v1` that language models answer."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from agent.api.callers import Role
from agent.api.http.errors import status_of
from agent.api.http.messages import Answer, Request, Route, Stream, encode_json, json_response
from agent.api.openai import answers
from agent.api.openai.answers import Head
from agent.api.openai.errors import body, problem_response
from agent.api.openai.requests import ChatRequest, CompletionRequest, decoded
from agent.api.openai.writing import Writers
from agent.api.ports import ModelPort
from agent.api.service import Service
from agent.engines.generation import Chosen, Finish, GenerationRequest, Part, Piece
from agent.errors import AgentError, EngineFailed, NotFound
from agent.ids import uuid7
from agent.tasks.generation.tools import Call, parsed

MAX_REQUEST = 8 * 2**20  # bytes
ANSWER_S = 600.0  # for a whole answer that is not streamed, seconds


class OpenAi:
    """Models, chats and completions."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """The paths."""
        table = [
            Route("GET", "/v1/models", self.models, max_body=0),
            Route("GET", "/v1/models/{model}", self.model, max_body=0),
            Route("POST", "/v1/chat/completions", self.chat, Role.APP, MAX_REQUEST, ANSWER_S),
            Route("POST", "/v1/completions", self.complete, Role.APP, MAX_REQUEST, ANSWER_S),
        ]
        for route in table:
            object.__setattr__(route, "problem", problem_response)
        return table
