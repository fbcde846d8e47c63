"""Which route answers a method and a target. Pure."""

from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, unquote

from agent.api.http.errors import Rejection
from agent.api.http.messages import Form, Route
from agent.errors import BadPayload, NotFound

MAX_KNOWN = 256  # targets remembered
MAX_REMEMBERED = 256  # bytes of a target that is remembered
MAX_QUERY = 32  # fields

Match = tuple[Route, Mapping[str, str], Mapping[str, str]]


class Router:
    """A table of routes. Targets that were found before are remembered, up to a bound."""

    def __init__(self, routes: Iterable[Route]) -> None:
        # A path that is written out goes before one with names in it.
        self._routes = sorted(routes, key=lambda route: route.pattern.count("{"))
        self._forms = {route.parts[0]: route.problem for route in self._routes if route.problem}
        self._known: dict[tuple[bytes, bytes], Match] = {}

    def find(self, method: bytes, target: bytes) -> Match:
        """The route, the arguments of its path and the query.

        Raises:
            Rejection: 404, no route has this path; 405, the path has none for this method.
            BadPayload: the target is not an absolute path.
        """
        known = self._known.get((method, target))
        if known is not None:
            return known
        found = self._search(method, target)
        if len(target) <= MAX_REMEMBERED:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[(method, target)] = found
        return found

    def form(self, target: bytes) -> Form | None:
        """How errors look below the first part of a path, whether a route has the rest or not; None: as usual."""
        try:
            path, _ = split(target)
        except BadPayload:
            return None
        return self._forms.get(path.strip("/").partition("/")[0])

    def _search(self, method: bytes, target: bytes) -> Match:
        path, query = split(target)
        verb = "GET" if method == b"HEAD" else method.decode("ascii", "replace")
        parts = path.strip("/").split("/")
        fitting = [route for route in self._routes if _fits(route.parts, parts)]
        for route in fitting:
            if route.method == verb:
                return route, _arguments(route.parts, parts), _query(query)
        shown = unquote(path)[:200]
        if fitting:
            raise _not_allowed(verb, shown, {route.method for route in fitting})
        raise Rejection(
            404, NotFound("there is no such path", where=shown, hint="See /v2 and docs/api.md")
        )


def split(target: bytes) -> tuple[str, str]:
    """Path and query, still encoded."""
    try:
        text = target.decode("ascii")
    except UnicodeDecodeError:
        raise BadPayload("the request's target must be ASCII", where="target") from None
    if text.startswith(("http://", "https://")):  # absolute form, which proxies use
        text = "/" + text.split("/", 3)[3] if text.count("/") >= 3 else "/"
    if not text.startswith("/"):
        raise BadPayload("the request's target must be a path", where="target")
    path, _, query = text.partition("#")[0].partition("?")
    return path, query


def _fits(pattern: tuple[str, ...], parts: list[str]) -> bool:
    return len(pattern) == len(parts) and all(
        want == have or (want.startswith("{") and have)
        for want, have in zip(pattern, parts, strict=True)
    )


def _arguments(pattern: tuple[str, ...], parts: list[str]) -> Mapping[str, str]:
    pairs = zip(pattern, parts, strict=True)
    return {want[1:-1]: unquote(have) for want, have in pairs if want.startswith("{")}


def _query(query: str) -> Mapping[str, str]:
    if not query:
        return {}
    try:
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_QUERY))
    except ValueError:
        raise BadPayload(f"more than {MAX_QUERY} fields", where="query") from None


def _not_allowed(method: str, path: str, allowed: set[str]) -> Rejection:
    names = sorted(allowed | ({"HEAD"} if "GET" in allowed else set()))
    error = NotFound(f"{method} is not answered here", where=path, hint=f"Use {', '.join(names)}")
    return Rejection(405, error, b"Allow: %b\r\n" % ", ".join(names).encode())
