"""A repository in the retained messages of a real Mosquitto, from `publish` to an installed model."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import AgentError, Altered, NotFound, NotReachable
from agent.registry import Registry
from agent.sync.download import LinkThread, connected
from agent.sync.settings import LinkSettings
from agent.trust import chunks
from agent.trust.retained import RetainedSource, metadata_topic
from tests.support.broker import Mosquitto, mosquitto
from tests.support.fleet import Fleet, make_fleet
from tests.support.packages import large_package
from tools.fleet.mirror import Mirrored


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path / "mosquitto") as running:
        yield running


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """With a model of 1.4 MB: about twenty chunks."""
    fleet = make_fleet(tmp_path)
    large_package(tmp_path / "packages" / "negator" / "1.0.0")
    fleet.publish()
    return fleet


@pytest.fixture
def device(broker: Mosquitto) -> Iterator[LinkThread]:
    with connected(settings(broker, "device-1-models"), absent_s=0.3) as thread:
        yield thread


def settings(broker: Mosquitto, client_id: str = "edge-fleet") -> LinkSettings:
    return LinkSettings(
        brokers=(broker.url,), client_id=client_id, backoff_min_s=0.02, backoff_max_s=0.1
    )  # fmt: skip


def mirror(fleet: Fleet, broker: Mosquitto, *, everything: bool = False) -> Mirrored:
    return fleet.repository.mirror(settings(broker), "edge", everything=everything)


class Counting:
    """A device's source, and the topics that it asked for."""

    def __init__(self, thread: LinkThread, registry: Registry) -> None:
        self.topics: list[str] = []
        known = registry.known_chunks("negator")
        self.source = RetainedSource(self._fetch, "edge", known)
        self._thread = thread

    def _fetch(self, topics):  # type: ignore[no-untyped-def]
        asked = list(topics)
        self.topics += asked
        return self._thread.fetch(asked)

    @property
    def blobs(self) -> int:
        return sum("/blob/" in topic for topic in self.topics)


def install(device: LinkThread, fleet: Fleet) -> Counting:
    """Install the newest version by the broker."""
    counting = Counting(device, fleet.registry)
    assert fleet.registry.install(counting.source, "negator").active
    return counting


def retained(broker: Mosquitto) -> dict[str, bytes]:
    """Everything that the broker holds, as another program sees it."""
    done = subprocess.run(
        ["mosquitto_sub", "-p", str(broker.port), "-t", "edge/#", "-W", "1", "-F", "%t %x"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    pairs = (line.partition(" ") for line in done.stdout.splitlines())
    return {topic: bytes.fromhex(payload) for topic, _, payload in pairs}


def put(broker: Mosquitto, topic: str, payload: bytes) -> None:
    """What somebody else may do to a retained message; empty deletes it."""
    command = ["mosquitto_pub", "-p", str(broker.port), "-q", "1", "-r", "-t", topic]
    subprocess.run([*command, "-s"] if payload else [*command, "-n"], input=payload, check=True)


def a_chunk(broker: Mosquitto) -> str:
    """The topic of a chunk of the model's middle."""
    found = retained(broker)
    sizes = [topic for topic, p in found.items() if "/blob/" in topic and len(p) > 20_000]
    return sorted(sizes)[len(sizes) // 2]


def test_a_model_is_installed_by_mqtt(fleet: Fleet, broker: Mosquitto, device: LinkThread) -> None:
    done = mirror(fleet, broker)
    assert done.sent_bytes > 1_400_000
    install(device, fleet)
    assert fleet.restarted().open("negator").ref.version == "1.0.0"


def test_no_message_is_larger_than_a_cloud_broker_takes(fleet: Fleet, broker: Mosquitto) -> None:
    mirror(fleet, broker)
    assert max(map(len, retained(broker).values())) <= chunks.MAX_BYTES


def test_an_update_sends_and_fetches_only_what_changed(
    fleet: Fleet, broker: Mosquitto, device: LinkThread
) -> None:
    mirror(fleet, broker)
    install(device, fleet)
    large_package(fleet.directory / "packages" / "negator" / "1.1.0", version="1.1.0")
    fleet.publish("1.1.0")
    done = mirror(fleet, broker)
    assert done.sent_bytes < 350_000
    asked = install(device, fleet)
    assert fleet.registry.open("negator").ref.version == "1.1.0"
    assert asked.blobs <= 8


def test_a_refresh_costs_one_message(fleet: Fleet, broker: Mosquitto) -> None:
    mirror(fleet, broker)
    fleet.repository.refresh()
    assert mirror(fleet, broker).sent == 1
    assert mirror(fleet, broker).sent == 0


def test_nobody_waits_for_a_root_that_is_not_signed_yet(
    fleet: Fleet, broker: Mosquitto, device: LinkThread
) -> None:
    mirror(fleet, broker)
    fleet.repository.rotate_key("targets")
    mirror(fleet, broker)
    held = retained(broker)
    assert held[metadata_topic("edge", "3.root.json")] == b"null"
    install(device, fleet)
    assert fleet.registry._read().root.encode() == fleet.repository.root_bytes()


def test_what_is_withdrawn_leaves_the_broker(fleet: Fleet, broker: Mosquitto) -> None:
    mirror(fleet, broker)
    held = retained(broker)
    large_package(fleet.directory / "packages" / "negator" / "1.1.0", version="1.1.0")
    ref = fleet.publish("1.1.0")
    mirror(fleet, broker)
    fleet.repository.withdraw(ref)
    assert mirror(fleet, broker).removed > 0
    blobs = {topic for topic in held if "/blob/" in topic}
    assert {topic for topic in retained(broker) if "/blob/" in topic} == blobs


def test_a_missing_chunk_is_an_error_and_the_download_goes_on_once_it_is_back(
    fleet: Fleet, broker: Mosquitto, device: LinkThread
) -> None:
    mirror(fleet, broker)
    everything = Counting(device, fleet.registry)
    list(everything.source.read(f"targets/{model(fleet)}"))
    topic = a_chunk(broker)
    put(broker, topic, b"")
    with pytest.raises(NotReachable) as caught:
        install(device, fleet)
    assert caught.value.where == topic
    mirror(fleet, broker, everything=True)
    again = Counting(device, fleet.registry)
    assert fleet.registry.install(again.source, "negator").active
    assert again.topics.count(topic) == 1
    assert again.blobs <= everything.blobs


def model(fleet: Fleet) -> str:
    """The model file's place below ``targets/``."""
    (path,) = (fleet.directory / "repository" / "targets").rglob("*.onnx")
    return str(path.relative_to(fleet.directory / "repository" / "targets"))


@pytest.mark.parametrize("payload", [b"junk", b"\0" * 50_000])
def test_a_chunk_with_other_content_is_refused(
    fleet: Fleet, broker: Mosquitto, device: LinkThread, payload: bytes
) -> None:
    mirror(fleet, broker)
    put(broker, a_chunk(broker), payload)
    with pytest.raises(Altered):
        install(device, fleet)
    assert fleet.registry.list() == []
    mirror(fleet, broker, everything=True)
    install(device, fleet)


@pytest.mark.parametrize("payload", [b"", b"null", b"{}", b"\0" * 200_000, b"x"])
def test_a_timestamp_that_is_none_is_refused(
    fleet: Fleet, broker: Mosquitto, device: LinkThread, payload: bytes
) -> None:
    mirror(fleet, broker)
    put(broker, "edge/tuf/timestamp", payload)
    with pytest.raises(AgentError):
        install(device, fleet)
    mirror(fleet, broker, everything=True)
    install(device, fleet)


def test_a_topic_without_a_repository_is_not_found(
    fleet: Fleet, broker: Mosquitto, device: LinkThread
) -> None:
    with pytest.raises(NotFound, match="no repository"):
        install(device, fleet)


def test_a_broker_that_lost_its_disk_gets_everything_again(
    fleet: Fleet, broker: Mosquitto, tmp_path: Path
) -> None:
    first = mirror(fleet, broker)
    broker.kill()  # before it wrote anything to its disk
    broker.start()
    assert mirror(fleet, broker).sent == first.sent


def test_a_broker_killed_while_it_is_mirrored_to_is_completed_by_the_next_run(
    fleet: Fleet, broker: Mosquitto, device: LinkThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tools.fleet import mirror as mirrors

    monkeypatch.setattr(mirrors, "PATIENCE_S", 0.3)
    sent = 0
    original = chunks.messages

    def killing(data: memoryview) -> Iterator[tuple[str, bytes]]:
        nonlocal sent
        for message in original(data):
            sent += 1
            if sent == 10:
                broker.kill()
            yield message

    monkeypatch.setattr(mirrors, "messages", killing)
    with pytest.raises(NotReachable):
        mirror(fleet, broker)
    monkeypatch.setattr(mirrors, "messages", original)
    broker.start()
    mirror(fleet, broker)
    install(device, fleet)


def test_a_broker_that_keeps_nothing_is_told_to_the_operator(fleet: Fleet, tmp_path: Path) -> None:
    with (
        mosquitto(tmp_path / "forgetful", "retain_available false") as forgetful,
        pytest.raises(NotReachable, match="kept nothing"),
    ):
        mirror(fleet, forgetful)
