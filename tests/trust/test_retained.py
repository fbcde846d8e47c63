"""A repository in retained messages, over a broker in memory that can misbehave."""

from collections.abc import Iterable, Iterator

import pytest

from agent.errors import AgentError, Altered, NotFound, NotReachable
from agent.trust import chunks
from agent.trust.chunks import Entry, encode_list, messages
from agent.trust.digest import sha256_hex
from agent.trust.retained import ABSENT, RetainedSource, metadata_topic
from tests.trust.test_chunks import noise

DATA = noise(1_000_000)
SHA256 = sha256_hex(DATA)
PATH = f"targets/negator/1.0.0/{SHA256}.model.onnx"


class Broker:
    """Messages by topic; counts what is asked for."""

    def __init__(self, data: bytes = DATA) -> None:
        self.blobs = {f"p/blob/{sha}": payload for sha, payload in messages(memoryview(data))}
        self.asked: list[str] = []

    def fetch(self, topics: Iterable[str]) -> Iterator[bytes | None]:
        for topic in topics:
            self.asked.append(topic)
            yield self.blobs.get(topic)

    def source(self, known: dict[str, bytes] | None = None) -> RetainedSource:
        return RetainedSource(self.fetch, "p", known)

    def read(self, path: str = PATH, offset: int = 0) -> bytes:
        return b"".join(self.source().read(path, offset))


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.mark.parametrize("offset", [0, 1, 16_384, 500_000, 999_999, 1_000_000, 1_000_001])
def test_a_file_is_read_from_any_offset_and_nothing_before_it_is_asked_for(
    broker: Broker, offset: int
) -> None:
    assert broker.read(offset=offset) == DATA[offset:]
    before = sum(end <= offset for _, end in chunks.cut(memoryview(DATA)))
    assert len(broker.asked) == len(broker.blobs) - before


@pytest.mark.parametrize("offset", [0, 700_000])
def test_lists_in_lists(monkeypatch: pytest.MonkeyPatch, offset: int) -> None:
    monkeypatch.setattr(chunks, "MAX_ENTRIES", 4)
    broker = Broker()
    assert broker.read(offset=offset) == DATA[offset:]


def test_a_small_file_is_one_message() -> None:
    broker = Broker(b"manifest")
    path = f"targets/negator/1.0.0/{sha256_hex(b'manifest')}.model.toml"
    assert broker.read(path) == b"manifest"
    assert len(broker.asked) == 1


def test_only_what_changed_is_asked_for(broker: Broker) -> None:
    newer = DATA[:400_000] + b"changed" + DATA[400_000:]
    known = {sha256_hex(DATA[a:b]): DATA[a:b] for a, b in chunks.cut(memoryview(DATA))}
    update = Broker(newer)
    path = f"targets/negator/1.1.0/{sha256_hex(newer)}.model.onnx"
    assert b"".join(update.source(known).read(path)) == newer
    assert len(update.asked) <= 4
    assert len(update.blobs) > 10


def test_a_known_chunk_that_was_damaged_is_fetched_after_all(broker: Broker) -> None:
    class Damaged(dict[str, bytes]):
        def __contains__(self, key: object) -> bool:
            return True

    assert b"".join(broker.source(Damaged()).read(PATH)) == DATA


def test_metadata_by_name_and_what_is_not_there(broker: Broker) -> None:
    broker.blobs |= {"p/tuf/timestamp": b"{}", metadata_topic("p", "2.root.json"): ABSENT}
    assert broker.read("metadata/timestamp.json") == b"{}"
    for name in ("2.root.json", "3.root.json"):
        with pytest.raises(NotFound):
            broker.read(f"metadata/{name}")


def test_metadata_that_is_too_large_for_a_message(broker: Broker) -> None:
    broker.blobs["p/tuf/targets/2"] = broker.blobs[f"p/blob/{SHA256}"]
    assert broker.read("metadata/2.targets.json") == DATA


@pytest.mark.parametrize(
    ("name", "topic"),
    [
        ("timestamp.json", "p/tuf/timestamp"),
        ("12.targets.json", "p/tuf/targets/12"),
        ("3.vision.cats.json", "p/tuf/vision%2Ecats/3"),
        ("3.vision%2Ecats.json", "p/tuf/vision%252Ecats/3"),
    ],
)
def test_no_topic_has_a_dot_and_no_two_files_share_one(name: str, topic: str) -> None:
    assert metadata_topic("p", name) == topic


@pytest.mark.parametrize("name", ["a/b.json", "+", "#", "$SYS", "", "a\nb"])
def test_a_name_cannot_become_another_topic(broker: Broker, name: str) -> None:
    with pytest.raises(NotFound):
        broker.read(f"metadata/{name}")
    assert broker.asked == []


def test_a_target_without_a_digest_in_its_name_is_not_found(broker: Broker) -> None:
    with pytest.raises(NotFound):
        broker.read("targets/negator/1.0.0/model.onnx")


def test_a_missing_chunk_is_named(broker: Broker) -> None:
    topic = list(broker.blobs)[3]
    del broker.blobs[topic]
    with pytest.raises(NotReachable) as caught:
        broker.read()
    assert caught.value.where == topic


def refused(broker: Broker, path: str = PATH) -> bytes:
    """What was read before the refusal."""
    got: list[bytes] = []
    with pytest.raises(Altered):
        got.extend(broker.source().read(path))
    return b"".join(got)


def test_a_chunk_with_other_content_ends_the_reading_before_it(broker: Broker) -> None:
    topic = list(broker.blobs)[3]
    broker.blobs[topic] = broker.blobs[topic][:-1] + b"x"
    got = refused(broker)
    assert DATA.startswith(got)
    assert got


@pytest.mark.parametrize("payload", [b"junk", encode_list([]), b"\0" * 200_000])
def test_a_list_that_is_none_is_refused(broker: Broker, payload: bytes) -> None:
    broker.blobs[f"p/blob/{SHA256}"] = payload
    assert refused(broker) == b""


def test_a_list_that_names_itself_is_refused(broker: Broker) -> None:
    topic = f"p/blob/{SHA256}"
    broker.blobs[topic] = encode_list([Entry(SHA256, 10**9)])
    assert refused(broker) == b""


def test_a_list_of_another_size_than_its_entry_is_refused(broker: Broker) -> None:
    inner = "11" * 32
    broker.blobs[f"p/blob/{SHA256}"] = encode_list([Entry(inner, 10**6)])
    broker.blobs[f"p/blob/{inner}"] = encode_list([Entry("22" * 32, 10**9)])
    assert refused(broker) == b""


def test_every_error_is_one_of_ours(broker: Broker) -> None:
    for topic in list(broker.blobs)[:4]:
        broker.blobs[topic] = b""
        with pytest.raises(AgentError):
            broker.read()
