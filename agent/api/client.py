"""A small client of the local API, for commands and scripts. Safe from several threads."""

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec

from agent import errors
from agent.errors import AgentError, BadPayload, NotReachable, TooMany, Unavailable

TIMEOUT_S = 60.0  # for each step of a call
MAX_ANSWER = 64 * 1024 * 1024  # bytes
MAX_IDLE = 4  # connections kept for the next call


class Client:
    """Calls a daemon over its Unix socket.

    Every method raises the daemon's own errors as this package's classes, and NotReachable when no
    daemon answers.
    """

    def __init__(self, socket_path: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._path = socket_path
        self._timeout_s = timeout_s
        self._idle: list[UnixConnection] = []
        self._lock = threading.Lock()

    def get_json(self, path: str) -> Any:
        """The answer to a GET, decoded."""
        return _decode(self.request("GET", path))

    def get_text(self, path: str) -> str:
        """The answer to a GET, as text."""
        return self.request("GET", path).decode()

    def post(self, path: str, body: bytes | Any, *, content_type: str = "application/json") -> Any:
        """The answer to a POST, decoded. A body that is not bytes is sent as JSON."""
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return _decode(self.request("POST", path, data, {"Content-Type": content_type}))

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        """The answer's body, whatever it is."""
        return self.exchange(method, path, body, headers)[0]

    def exchange(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[bytes, http.client.HTTPMessage]:
        """The answer's body and headers, whatever they are."""
        connection, response = self._begin(method, path, body, headers or {})
        try:
            data = response.read(MAX_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._unreachable(error) from error
        if len(data) > MAX_ANSWER:
            connection.close()
            raise BadPayload("the answer is too large", where=path)
        self._give_back(connection)
        if response.status >= 400:
            raise error_from(response.status, data, response.getheader("Retry-After"))
        return data, response.headers

    def events(self, after: int | None = None) -> Iterator[dict[str, Any]]:
        """Events as they happen: ``id``, ``type``, ``time`` and ``data``; ends when the daemon stops.

        Args:
            after: go on after the event of this id.
        """
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        connection, response = self._begin("GET", "/api/events", None, headers)
        with closing(connection):
            if response.status >= 400:
                raise error_from(response.status, response.read(), None)
            try:
                yield from _events(response)
            except (OSError, http.client.HTTPException) as error:
                raise self._unreachable(error) from error

    def written(
        self, path: str, body: bytes | Any, *, content_type: str = "application/json"
    ) -> Iterator[dict[str, Any]]:
        """What a POST is answered with, event by event, as OpenAI's interface streams.

        A body that is not bytes is sent as JSON. Closing the iterator stops the model.
        """
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        headers = {"Content-Type": content_type}
        connection, response = self._begin("POST", path, data, headers)
        with closing(connection):
            if response.status >= 400:
                raise error_from(response.status, response.read(), None)
            try:
                yield from _data(response)
            except (OSError, http.client.HTTPException) as error:
                raise self._unreachable(error) from error

    def close(self) -> None:
        """Close the connections that wait for another call."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _begin(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> "tuple[UnixConnection, http.client.HTTPResponse]":
        with self._lock:
            kept = self._idle.pop() if self._idle else None
        if kept is not None:
            with suppress(OSError, http.client.HTTPException):  # closed while it was idle
                return kept, _send(kept, method, path, body, headers)
            kept.close()
        connection = UnixConnection(self._path, self._timeout_s)
        try:
            return connection, _send(connection, method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._unreachable(error) from error

    def _give_back(self, connection: "UnixConnection") -> None:
        with self._lock:
            if connection.sock is not None and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _unreachable(self, error: Exception) -> NotReachable:
        where = str(self._path)
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            hint = "Start it: edge-agent run. While it starts: edge-agent status --wait"
            return NotReachable("no daemon is running", where=where, hint=hint)
        if isinstance(error, PermissionError):
            return NotReachable(
                "this user may not connect", where=where, hint="Join the group that owns the socket"
            )
        if isinstance(error, TimeoutError):
            return NotReachable(f"no answer within {self._timeout_s:g} s", where=where)
        return NotReachable(f"the connection broke: {error}", where=where)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def error_from(status: int, body: bytes, retry_after: str | None) -> AgentError:
    """The error that the daemon meant, by its code."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError:
        fields = {}
    if isinstance(fields.get("error"), dict):  # in OpenAI's form, whose text begins with the place
        fields = fields["error"]
        fields["where"] = fields.get("param") or ""
        fields["message"] = str(fields.get("message")).removeprefix(f"{fields['where']}: ")
    message = str(fields.get("message") or fields.get("error") or f"status {status}")
    if reasons := fields.get("reasons"):
        message = "; ".join(map(str, reasons))
    where, hint = str(fields.get("where", "")), str(fields.get("hint", ""))
    default = Unavailable if status >= 500 else BadPayload
    cls = _classes().get(str(fields.get("code")), default)
    if issubclass(cls, Unavailable | TooMany) and retry_after and retry_after.isdigit():
        return cls(message, where=where, hint=hint, retry_after_s=float(retry_after))
    return cls(message, where=where, hint=hint)


def _classes() -> dict[str, type[AgentError]]:
    found = [cls for cls in vars(errors).values() if isinstance(cls, type)]
    return {cls.code: cls for cls in found if issubclass(cls, AgentError)}


def _send(
    connection: UnixConnection, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> http.client.HTTPResponse:
    try:
        connection.request(method, path, body, headers)
    except BrokenPipeError:
        # Refused before all of it was sent: the answer says why.
        return connection.getresponse()
    return connection.getresponse()


def _decode(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except msgspec.MsgspecError as error:
        raise BadPayload(f"the daemon's answer is not JSON: {error}") from error


def _data(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    while line := response.readline():
        if line.startswith(b"data: [DONE]"):
            return
        if line.startswith(b"data: "):
            found = _decode(line[6:])
            if "error" in found:
                raise error_from(503, line[6:], None)
            yield found


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    number = 0
    while line := response.readline():
        if line.startswith(b"id: "):
            number = int(line[4:])
        elif line.startswith(b"data: "):
            yield {"id": number, **_decode(line[6:])}
