"""Every path of the local API, and what answers it."""

from agent.api.classify import Classification
from agent.api.http.messages import Route
from agent.api.native import Native
from agent.api.openai.embeddings import Embeddings
from agent.api.openai.routes import OpenAi
from agent.api.openai.speech import Speech
from agent.api.openapi import Document
from agent.api.service import Service
from agent.api.settings import ApiSettings
from agent.api.texts import Texts
from agent.api.v2 import OpenInference, Repository, SharedMemory
from agent.api.verbosity import Logging


def routes(service: Service, settings: ApiSettings) -> list[Route]:
    """Every route of the local API, and the one that describes them."""
    texts = Texts(service.inference)
    table = [
        *OpenInference(service).routes(),
        *Repository(service.repository).routes(),
        *SharedMemory(service.regions).routes(),
        *Logging().routes(),
        *Native(service, settings).routes(),
        *OpenAi(service).routes(),
        *Embeddings(texts).routes(),
        *Speech(service).routes(),
        *Classification(texts).routes(),
        *_escalation_routes(service),
    ]
    return [*table, Document(table).route]


def _escalation_routes(service: Service) -> list[Route]:
    if service.escalations is None:
        return []
    from agent.api.escalations import EscalationRoutes

    return EscalationRoutes(service.escalations, service.clock).routes()
