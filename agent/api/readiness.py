"""Ready or not, as every protocol on the socket answers it."""

from agent.api.answers import Readiness
from agent.api.http.messages import NO_STORE, Operation, Response, json_response

READY = Operation("Whether the daemon is ready, and why not", answer=Readiness, also=(503,))


def readiness(reasons: list[str]) -> Response:
    """200 without reasons, else 503 with them."""
    if reasons:
        body = {"ready": False, "reasons": reasons}
        return json_response(body, 503, b"Retry-After: 1\r\n" + NO_STORE)
    return json_response({"ready": True, "reasons": []}, headers=NO_STORE)
