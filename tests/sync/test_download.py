"""Retained messages from a real Mosquitto: all of them, or an error in time."""

import asyncio
import subprocess
import threading

import pytest

from agent.errors import BadConfig, NotReachable
from agent.sync.download import LinkThread, connected
from agent.sync.settings import LinkSettings
from tests.support.broker import ACCEPT_5, CONNECT, Mosquitto, fake_broker, free_port, mosquitto
from tests.support.certificates import make_certificates


def settings(url: str, **options) -> LinkSettings:
    quick = {"client_id": "device-1-models", "backoff_min_s": 0.02, "backoff_max_s": 0.1}
    return LinkSettings(brokers=(url,), **{**quick, "connect_timeout_s": 5.0, **options})


def retain(broker: Mosquitto, topic: str, payload: bytes) -> None:
    """As another program would."""
    subprocess.run(
        ["mosquitto_pub", "-p", str(broker.port), "-q", "1", "-r", "-t", topic, "-s"],
        input=payload, check=True,
    )  # fmt: skip


@pytest.fixture
def thread(broker):
    with connected(settings(broker.url), absent_s=0.3) as running:
        yield running


def test_messages_come_in_the_order_asked_for(broker, thread):
    for number in range(40):
        retain(broker, f"t/{number}", bytes([number]) * 1000)
    topics = [f"t/{number}" for number in (7, 3, 3, *range(40))]
    found = list(thread.fetch(topics))
    assert found == [bytes([number]) * 1000 for number in (7, 3, 3, *range(40))]


def test_the_largest_message_of_a_repository_comes_whole(broker, thread):
    payload = bytes(range(256)) * 480  # 120 KiB
    retain(broker, "t/large", payload)
    assert list(thread.fetch(["t/large"])) == [payload]


def test_what_is_not_retained_is_none_after_a_silence(broker, thread):
    retain(broker, "t/there", b"x")
    assert list(thread.fetch(["t/absent", "t/there", "t/absent"])) == [None, b"x", None]


def test_a_message_that_was_deleted_is_none(broker, thread):
    retain(broker, "t/a", b"x")
    assert list(thread.fetch(["t/a"])) == [b"x"]
    subprocess.run(
        ["mosquitto_pub", "-p", str(broker.port), "-q", "1", "-r", "-t", "t/a", "-n"], check=True
    )
    assert list(thread.fetch(["t/a"])) == [None]


def test_nothing_stays_subscribed(broker, thread):
    retain(broker, "t/a", b"x")
    list(thread.fetch(["t/a", "t/b"]))
    assert thread.link._handlers == {}


def test_a_broker_that_is_killed_in_the_middle_is_waited_for(broker, thread):
    for number in range(60):
        retain(broker, f"t/{number}", bytes([number]) * 10_000)
    broker.stop()  # writes what is retained to its disk
    broker.start()
    arriving = thread.fetch([f"t/{number}" for number in range(60)])
    found = [next(arriving) for _ in range(20)]
    broker.kill()
    threading.Timer(0.3, broker.start).start()
    found += list(arriving)
    assert found == [bytes([number]) * 10_000 for number in range(60)]


def test_a_broker_that_stays_away_is_an_error(broker):
    with LinkThread(settings(broker.url), absent_s=0.3) as thread:
        thread._download._give_up_s = 0.5
        broker.kill()
        with pytest.raises(NotReachable) as caught:
            list(thread.fetch(["t/a"]))
    assert str(broker.port) in caught.value.where


def test_a_reader_that_stops_early_leaves_nothing_behind(broker, thread):
    for number in range(30):
        retain(broker, f"t/{number}", b"x")
    arriving = thread.fetch([f"t/{number}" for number in range(30)])
    assert next(arriving) == b"x"
    arriving.close()


def test_no_broker_is_an_error_within_the_time_out():
    with (
        pytest.raises(NotReachable),
        connected(settings(f"mqtt://127.0.0.1:{free_port()}", connect_timeout_s=0.5)),
    ):
        pass


async def test_a_broker_that_accepts_and_then_only_pings_has_nothing():
    """It never answers a subscription: silence, and so nothing is there."""
    async with fake_broker({CONNECT: lambda _: ACCEPT_5}) as fake:

        def ask() -> list[bytes | None]:
            with connected(settings(fake.url), absent_s=0.3) as thread:
                return list(thread.fetch(["t/a"]))

        assert await asyncio.to_thread(ask) == [None]


def test_by_tls_with_a_certificate_of_its_own(tmp_path):
    tmp_path.chmod(0o755)
    files = make_certificates(tmp_path)
    config = (
        f"cafile {files['ca']}\ncertfile {files['server']}\nkeyfile {files['server_key']}\n"
        "require_certificate true\n"
    )
    with mosquitto(tmp_path / "mosquitto", config) as broker:
        url = f"mqtts://127.0.0.1:{broker.port}"
        named = settings(
            url, ca_file=files["ca"], certificate_file=files["device"], key_file=files["device_key"]
        )
        with connected(named, absent_s=0.2) as thread:
            assert list(thread.fetch(["t/a"])) == [None]
        with (
            pytest.raises(NotReachable),
            connected(settings(url, ca_file=files["ca"], connect_timeout_s=1.0)),
        ):
            pass


def test_a_key_without_its_certificate_is_refused(tmp_path):
    with pytest.raises(BadConfig):
        settings("mqtt://127.0.0.1", key_file=tmp_path / "key.pem")
