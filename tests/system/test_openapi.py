"""The OpenAPI document held against a real daemon: whatever fits it, or nearly fits it, is answered.

schemathesis makes requests from the document, by its schemas and against them. No answer may be a
5xx, but for the one that says that a model is not loaded; every answer must be of a documented
status and media type and fit its schema; the daemon must be as well afterwards as it was before.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.device import Device
from tests.support.unix_adapter import session
from tests.system.conftest import MakeDevice

CHECKS = [content_type_conformance, response_schema_conformance, status_code_conformance]

#: Answers without end, which a client like this would wait for; tests/api has tests of its own.
ENDLESS = {"/api/events"}

#: What is said of a thing that is there, by parameter; half of the requests name it.
THERE = {"model": "pump-anomaly", "version": "1.0.0", "region": "frames"}


@pytest.fixture
def daemon(make_device: MakeDevice) -> Device:
    return make_device().start()


@pytest.fixture
def client(daemon: Device) -> Iterator[requests.Session]:
    with session(daemon.socket) as made:
        yield made


def bounded(examples: int, *, repeatable: bool) -> Callable[[Any], Any]:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=repeatable,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def run(daemon: Device, client: requests.Session, mode: GenerationMode, limit: Any) -> int:
    """Ask every operation; how many requests were answered."""
    asked = 0
    document = daemon.get("/openapi.json").json
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = result.ok()
        if operation.path in ENDLESS:
            continue
        for known in ({}, {name: THERE[name] for name in THERE if f"{{{name}}}" in operation.path}):

            def ask(case: Any) -> None:
                nonlocal asked
                case.path_parameters = {**(case.path_parameters or {}), **known}  # noqa: B023
                response = case.call(base_url="http://device", session=client, timeout=30)
                asked += 1
                check(case, response)

            try:
                limit(given(case=operation.as_strategy(mode))(ask))()
            except Unsatisfiable:
                continue  # nothing about this operation can be wrong
    return asked


def check(case: Any, response: Any) -> None:
    if response.status_code >= 500:
        assert response.status_code == 503, response.text
        assert case.path.endswith("/ready"), (case.path, response.text)
        return
    case.validate_response(response, checks=CHECKS)


def assert_well(daemon: Device) -> None:
    assert daemon.get("/readyz").status == 200
    assert daemon.metric("api_requests_total", 'status="500"') == 0
    assert daemon.metric("api_bodies_bytes") == 0
    assert "Traceback" not in daemon.log


@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_requests_by_the_document_and_against_it_are_answered(
    daemon: Device, client: requests.Session, mode: GenerationMode
) -> None:
    assert run(daemon, client, mode, bounded(5, repeatable=True)) > 100
    assert_well(daemon)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_many_requests_by_the_document_and_against_it_are_answered(
    daemon: Device, client: requests.Session, mode: GenerationMode
) -> None:
    assert run(daemon, client, mode, bounded(400, repeatable=False)) > 5000
    assert_well(daemon)
