"""The logging extension: the daemon's one level through the protocol's switches."""

import json
import logging
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from agent.api.verbosity import LogFields, chosen, current, described
from agent.errors import BadPayload
from agent.logs import LogLevel
from tests.support.served import Serve


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    before = logging.getLogger().level
    logging.getLogger().setLevel(logging.INFO)
    yield
    logging.getLogger().setLevel(before)


async def test_a_level_is_changed_and_seen(serve: Serve) -> None:
    async with serve() as api:
        before = (await api.call("GET", "/v2/logging")).json()
        assert (before["log_info"], before["log_verbose_level"]) == (True, 0)
        body = json.dumps({"log_verbose_level": 1}).encode()
        assert (await api.call("POST", "/v2/logging", body)).json()["log_verbose_level"] == 1
        assert logging.getLogger().level == logging.DEBUG
        body = json.dumps({"log_info": False, "log_verbose_level": 0}).encode()
        after = (await api.call("POST", "/v2/logging", body)).json()
        assert (after["log_info"], after["log_warning"]) == (False, True)
        assert logging.getLogger().level == logging.WARNING
        assert (await api.call("GET", "/v2/logging")).json() == after


@pytest.mark.parametrize(
    "fields",
    [
        {"log_error": False},
        {"log_warning": False},
        {"log_info": False, "log_verbose_level": 1},
        {"log_file": "/etc/passwd"},
        {"log_format": "ISO8601"},
        {"log_info": "yes"},
    ],
)
async def test_what_no_level_is_like_is_refused(serve: Serve, fields: dict[str, Any]) -> None:
    """A file above all: a caller never chooses where the daemon writes."""
    async with serve() as api:
        reply = await api.call("POST", "/v2/logging", json.dumps(fields).encode())
        assert (reply.status, logging.getLogger().level) == (400, logging.INFO)


@pytest.mark.parametrize("wanted", get_args(LogLevel))
@pytest.mark.parametrize("before", get_args(LogLevel))
def test_every_level_is_reached_from_every_other_by_what_it_says(
    wanted: LogLevel, before: LogLevel
) -> None:
    said = described(wanted)
    assert chosen(LogFields(**said), before) == wanted  # type: ignore[arg-type]


def test_nothing_asked_is_nothing_changed() -> None:
    assert chosen(LogFields(), current()) == "info"
    with pytest.raises(BadPayload, match="errors are always written"):
        chosen(LogFields(log_error=False), "info")
