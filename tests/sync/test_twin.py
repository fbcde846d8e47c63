"""The twin: applied once, kept over a restart, reported with every connection."""

import asyncio
import json

import pytest

from agent.clock import SystemClock
from agent.errors import BadConfig
from agent.store.db import Database
from agent.sync.desired import MAX_BYTES, Group, Number
from agent.sync.topics import Topics
from agent.sync.twin import Twin
from agent.telemetry.events import EventBus
from tests.fakes.link import FakeLink
from tests.sync.conftest import until

TOPICS = Topics("edge", "dev-1")


class Device:
    """A twin over a real database, and one group of two settings that must not be equal."""

    def __init__(self, path) -> None:
        self.database = Database.open(path, clock=SystemClock())
        self.link = FakeLink(window=1000)
        self.applied: list[dict] = []
        self.acked = 0
        self.twin = Twin(self.database, topics=TOPICS, clock=SystemClock(), events=EventBus())
        self.twin.start(self.link)  # type: ignore[arg-type]

    def apply(self, values) -> None:
        if values["a"] == values["b"]:
            raise BadConfig("must differ")
        self.applied.append(dict(values))

    async def serve(self) -> "Device":
        kinds = {"a": Number(0, 9), "b": Number(0, 9)}
        await self.twin.serve([Group(("g",), kinds, {"a": 1, "b": 2}, self.apply)])
        self.link.connect()
        return self

    async def desire(self, document: object, *, raw: bytes | None = None) -> dict:
        """What is reported after it."""
        payload = json.dumps(document).encode() if raw is None else raw
        before = self.acked
        self.link.receive(TOPICS.desired, payload, self._ack)
        await until(lambda: self.acked > before)
        return self.report()

    def report(self) -> dict:
        topic, payload = self.link.sent[-1]
        assert topic == "edge/d/dev-1/twin/reported"
        return json.loads(payload)

    def _ack(self) -> None:
        self.acked += 1

    async def close(self) -> None:
        await self.twin.close()
        await self.database.close()


@pytest.fixture
async def device(tmp_path):
    made = await Device(tmp_path / "agent.db").serve()
    yield made
    await made.close()


async def test_what_is_desired_takes_effect_and_is_reported(device):
    report = await device.desire({"version": 1, "desired": {"g": {"a": 5}}})
    assert device.applied == [{"a": 5, "b": 2}]
    assert (report["desired"], report["settings"], report["rejected"]) == (
        1,
        {"g": {"a": 5, "b": 2}},
        [],
    )


async def test_it_outlives_a_restart(device, tmp_path):
    await device.desire({"version": 7, "desired": {"g": {"a": 5}}})
    await device.close()
    again = await Device(tmp_path / "agent.db").serve()
    assert again.applied == [{"a": 5, "b": 2}]
    assert again.report()["desired"] == 7
    await again.close()


async def test_what_is_no_longer_desired_is_as_configured_again(device):
    await device.desire({"version": 1, "desired": {"g": {"a": 5}}})
    report = await device.desire({"version": 2, "desired": {}})
    assert report["settings"] == {"g": {"a": 1, "b": 2}}
    assert device.applied[-1] == {"a": 1, "b": 2}


async def test_the_retained_document_comes_with_every_connection_and_is_applied_once(device):
    document = {"version": 1, "desired": {"g": {"a": 5}}}
    await device.desire(document)
    reports = len(device.link.sent)
    await device.desire(document)
    assert len(device.applied) == 1
    assert len(device.link.sent) == reports
    device.link.cut()
    device.link.connect()
    assert len(device.link.sent) == reports + 1  # the report, as it stood


async def test_a_patch_changes_the_version_that_it_is_for(device):
    await device.desire({"version": 1, "desired": {"g": {"a": 5, "b": 6}}})
    report = await device.desire({"version": 2, "base": 1, "patch": {"g": {"a": None, "b": 7}}})
    assert report["settings"] == {"g": {"a": 1, "b": 7}}


async def test_settings_that_do_not_go_together_stay_as_they_were(device):
    report = await device.desire({"version": 1, "desired": {"g": {"a": 2}}})
    assert report["settings"] == {"g": {"a": 1, "b": 2}}
    assert [part["path"] for part in report["rejected"]] == ["/g"]
    assert "must differ" in report["rejected"][0]["reason"]


@pytest.mark.parametrize(
    "document",
    [
        {"version": 4, "desired": {}},
        {"version": 5, "desired": {"g": {"a": 9}}},
        {"version": 6, "base": 4, "patch": {}},
        {"version": 6, "patch": {}},
        {"version": 6},
        {"version": 6, "desired": {}, "patch": {}, "base": 5},
        {"version": 0, "desired": {}},
        {"version": "6", "desired": {}},
        {"version": 1.5, "desired": {}},
        {"version": 2**60, "desired": {}},
        {"version": 6, "desired": []},
        {"version": 6, "desired": {}, "more": 1},
        [], None, "x", 5,
    ],
)  # fmt: skip
async def test_a_document_of_the_wrong_shape_or_version_changes_nothing_and_is_reported(
    device, document
):
    await device.desire({"version": 5, "desired": {"g": {"a": 5}}})
    report = await device.desire(document)
    assert (report["desired"], report["settings"]) == (5, {"g": {"a": 5, "b": 2}})
    assert [part["path"] for part in report["rejected"]] == [""]
    assert len(device.applied) == 1


@pytest.mark.parametrize(
    "payload", [b"\xff", b"{", b"[" * 50_000, b'{"version": 6, "desired": {"g": "' + b"x" * MAX_BYTES + b'"}}',
                b'{"version":6,"desired":' + b'{"a":' * 5000 + b"1" + b"}" * 5001]
)  # fmt: skip
async def test_bytes_that_are_no_document_change_nothing_and_are_reported(device, payload):
    report = await device.desire(None, raw=payload)
    # How deep JSON is read depends on the Python; what is too deep is refused one way or the other.
    assert [part["path"] for part in report["rejected"]] in ([""], ["/a"])
    assert device.applied == []


async def test_taking_the_retained_document_back_changes_nothing(device):
    await device.desire({"version": 1, "desired": {"g": {"a": 5}}})
    await device.desire(None, raw=b"")
    assert device.twin.settings == {"g": {"a": 5, "b": 2}}


async def test_versions_of_reports_only_rise_also_over_a_restart(device, tmp_path):
    first = await device.desire({"version": 1, "desired": {}})
    await device.close()
    again = await Device(tmp_path / "agent.db").serve()
    second = await again.desire({"version": 2, "desired": {}})
    assert second["version"] > first["version"]
    await again.close()


async def test_a_flood_of_documents_wears_no_flash_card_out(device):
    """Whoever may publish there could otherwise have the device write without end."""
    before = device.database.commits
    for _ in range(500):
        device.link.receive(TOPICS.desired, b"rubbish", device._ack)
    await asyncio.sleep(0.5)
    assert device.database.commits - before <= 20
    assert device.acked <= 20
