"""Settings of the link: addresses, bounds, what belongs together."""

from pathlib import Path

import pytest

from agent.errors import BadConfig
from agent.sync.settings import BrokerAddress, LinkSettings


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://host", BrokerAddress("host", 1883)),
        ("mqtt://host:1884", BrokerAddress("host", 1884)),
        ("mqtts://host", BrokerAddress("host", 8883, tls=True)),
        ("ws://host", BrokerAddress("host", 80, path="/mqtt")),
        ("wss://host/broker", BrokerAddress("host", 443, tls=True, path="/broker")),
        ("mqtt://[::1]:1883", BrokerAddress("::1", 1883)),
    ],
)
def test_addresses_of_brokers(url, address):
    assert BrokerAddress.parse(url) == address


@pytest.mark.parametrize(
    "url", ["host:1883", "http://host", "mqtt://", "mqtt://host:99999", "", "mqtt://[::1"]
)
def test_what_is_no_address_is_refused_by_name(url):
    with pytest.raises(BadConfig) as refused:
        LinkSettings(brokers=(url,))
    assert refused.value.where == "brokers"


@pytest.mark.parametrize(
    "wrong",
    [
        {"brokers": ()},
        {"protocol": "4"},
        {"client_id": ""},
        {"client_id": "x" * 129},
        {"certificate_file": Path("a")},
        {"key_file": Path("a")},
        {"keepalive_s": 4},
        {"keepalive_s": 65_536},
        {"connect_timeout_s": 0},
        {"ack_timeout_s": 0},
        {"session_expiry_s": -1},
        {"window": 0},
        {"window": 65_536},
        {"receive_window": 0},
        {"max_incoming": 100},
        {"backoff_min_s": 0},
        {"backoff_min_s": 10.0, "backoff_max_s": 5.0},
    ],
)
def test_a_setting_out_of_bounds_is_refused(wrong):
    with pytest.raises(BadConfig):
        LinkSettings(**wrong)
