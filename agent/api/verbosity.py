"""The Open Inference Protocol's logging extension: which lines the daemon writes, until its end.

The daemon has one level, and a level includes those above it; the protocol has a switch for each. Where
lines go and how they look is the configuration's, since a caller must not choose files.
"""

import logging
from typing import Literal, TypedDict

import msgspec

from agent import logs
from agent.api.callers import Role
from agent.api.http.messages import Answer, Operation, Request, Route, json_response
from agent.errors import BadPayload

MAX_ASKED = 4096  # bytes

_LEVELS: dict[int, logs.LogLevel] = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
}


class LogSettings(TypedDict):
    """What is written; `log_verbose_level` is 1 with debug lines, else 0."""

    log_file: str
    log_info: bool
    log_warning: bool
    log_error: bool
    log_verbose_level: int
    log_format: str


class LogFields(msgspec.Struct, omit_defaults=True):
    """What to change; what is left out stays."""

    log_file: Literal[""] | None = None
    log_info: bool | None = None
    log_warning: bool | None = None
    log_error: bool | None = None
    log_verbose_level: int | None = None
    log_format: Literal["default"] | None = None


class Logging:
    """The two routes of the extension."""

    def routes(self) -> list[Route]:
        """Look and change."""
        look = Operation("Which lines the daemon writes", answer=LogSettings)
        change = Operation(
            "Change which lines the daemon writes, until its end",
            body=LogFields,
            answer=LogSettings,
            body_required=False,
        )
        return [
            Route("GET", "/v2/logging", self.look, max_body=0, operation=look),
            Route("POST", "/v2/logging", self.change, Role.OPERATOR, MAX_ASKED, operation=change),
        ]

    def look(self, _: Request) -> Answer:
        return json_response(described(current()))

    def change(self, request: Request) -> Answer:
        level = chosen(request.decoded(LogFields), current())
        logs.set_level(level)
        return json_response(described(level))


def current() -> logs.LogLevel:
    """The level of this process; that of a library's own is the next one above it."""
    found = logging.getLogger().getEffectiveLevel()
    return next((name for number, name in _LEVELS.items() if number >= found), "error")


def described(level: logs.LogLevel) -> LogSettings:
    """A level in the extension's words."""
    return {
        "log_file": "",
        "log_info": level in {"info", "debug"},
        "log_warning": level != "error",
        "log_error": True,
        "log_verbose_level": int(level == "debug"),
        "log_format": "default",
    }


def chosen(asked: LogFields, level: logs.LogLevel) -> logs.LogLevel:
    """The level that is asked for, beginning from another one.

    Raises:
        BadPayload: no level is like that.
    """
    given = msgspec.to_builtins(asked)
    wanted = {**described(level), **given}
    wanted["log_verbose_level"] = min(max(wanted["log_verbose_level"], 0), 1)
    for name in _LEVELS.values():
        if described(name) == wanted:
            return name
    raise BadPayload(
        "a level includes those above it, and errors are always written",
        where=", ".join(sorted(given)),
    )
