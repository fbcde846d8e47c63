"""Escalations over the local API: ask, look, and wait for the answer (RFC 7240, ``Prefer: wait``)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

import msgspec

from agent.api.callers import Caller, Role
from agent.api.http.messages import Answer, Operation, Request, Response, Route, json_response
from agent.clock import Clock, rfc3339
from agent.errors import BadPayload
from agent.sync.asking import Asked, parse_asked

if TYPE_CHECKING:
    from agent.store.cases import Case
    from agent.sync.escalation import Escalations

MAX_BODY = 8 << 20  # bytes: a question with one frame of a camera
STATES = ("open", "answered", "closed")


class CaseView(TypedDict):
    """A question that went to a person or a larger model, as its caller sees it."""

    id: str
    state: Literal["open", "answered", "closed", "expired"]
    created: str
    deadline: str
    model: str
    version: str
    digest: str
    sent: msgspec.Raw
    answer: NotRequired[msgspec.Raw]
    by: NotRequired[str]
    answered: NotRequired[str]


class CaseList(TypedDict):
    """The newest first."""

    escalations: list[CaseView]


_WAIT = {"Prefer": "wait=SECONDS holds the answer back until there is one, at most 300 s"}
_ASK = Operation(
    "Ask a person or a larger model", body=Asked, answer=CaseView, headers=_WAIT, also=(201, 202)
)
_LOOK = Operation("How a question stands", answer=CaseView, headers=_WAIT, also=(202,))
_LIST = Operation(
    "The newest questions",
    answer=CaseList,
    query={"state": "open, answered or closed", "limit": "how many, 100 unless said"},
)


class EscalationRoutes:
    """Thin over `agent.sync.escalation`."""

    def __init__(self, escalations: "Escalations", clock: Clock) -> None:
        self._escalations = escalations
        self._clock = clock

    def routes(self) -> list[Route]:
        """Ask, list and look."""
        path = "/api/escalations"
        return [
            Route("POST", path, self.ask, Role.APP, MAX_BODY, operation=_ASK, waits=True),
            Route("GET", path, self.newest, Role.OPERATOR, max_body=0, operation=_LIST),
            Route("GET", f"{path}/{{id}}", self.look, Role.APP, 0, operation=_LOOK, waits=True),
        ]

    async def ask(self, request: Request) -> Answer:
        """Open a case; with a preference to wait, its answer if it comes in time."""
        asked = parse_asked(request.decoded(dict[str, Any]))
        case, new = await self._escalations.ask(asked, request.caller.uid)
        return await self._answer(request, case, 201 if new else 200)

    async def look(self, request: Request) -> Answer:
        """How a case stands."""
        case = await self._escalations.get(request.arguments["id"], _owner(request.caller))
        return await self._answer(request, case, 200)

    async def newest(self, request: Request) -> Answer:
        """The newest cases, of one state or of all."""
        state = request.query.get("state") or None
        if state not in {None, *STATES}:
            raise BadPayload(f"must be one of {', '.join(STATES)}", where="state")
        limit = request.query.get("limit", "100")
        if not (limit.isdecimal() and len(limit) < 6):
            raise BadPayload("must be a number", where="limit")
        found = await self._escalations.newest(int(limit), state)  # type: ignore[arg-type]
        return json_response({"escalations": self._views(found)})

    def _views(self, found: "Sequence[Case]") -> list[CaseView]:
        return [view(case, self._clock.wall()) for case in found]

    async def _answer(self, request: Request, case: "Case", status: int) -> Response:
        headers = b"Location: /api/escalations/%b\r\nCache-Control: no-store\r\n" % case.id.encode()
        if case.state != "answered" and request.wait_s:
            case = await self._escalations.wait(case, request.wait_s)
            headers += b"Preference-Applied: wait=%d\r\n" % request.wait_s
            status = 200 if case.state == "answered" else 202
        return json_response(view(case, self._clock.wall()), status, headers)


def view(case: "Case", now: float) -> CaseView:
    """A case as a caller sees it."""
    seen: CaseView = {
        "id": case.id,
        "state": "expired" if case.state == "open" and now > case.deadline else case.state,
        "created": rfc3339(case.created),
        "deadline": rfc3339(case.deadline),
        "model": case.model,
        "version": case.version,
        "digest": case.digest,
        "sent": msgspec.Raw(case.body),
    }
    if case.answer is not None and case.answered is not None:
        seen["answer"] = msgspec.Raw(case.answer)
        seen["by"] = case.source
        seen["answered"] = rfc3339(case.answered)
    return seen


def _owner(caller: Caller) -> int | None:
    """Operators see every case, others their own."""
    return None if caller.role >= Role.OPERATOR else caller.uid
