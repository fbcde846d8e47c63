"""How the device reaches its brokers."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from agent.errors import BadConfig
from agent.ranges import check_range
from agent.sync.pace import QuietHours

_GROUP = re.compile(r"[^/+#\x00-\x1f]{0,64}")
_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a broker listens.

    Attributes:
        host: name or address.
        port: TCP port.
        tls: whether the connection is encrypted.
        path: of the WebSocket; empty for plain MQTT.
    """

    host: str
    port: int
    tls: bool = False
    path: str = ""

    @classmethod
    def parse(cls, url: str) -> "BrokerAddress":
        """Read ``mqtt://host[:port]``, ``mqtts://…``, ``ws://host[:port]/path`` or ``wss://…``.

        Raises:
            BadConfig: the address is none of these.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise BadConfig(f"{url!r} is not an address: {error}", where="brokers") from error
        if parts.scheme not in _PORTS or not host:
            raise BadConfig(
                f"{url!r} is not an address of a broker",
                where="brokers",
                hint="Write mqtt://host:1883, mqtts://host:8883, ws://host/mqtt or wss://host/mqtt.",
            )
        web = parts.scheme.startswith("ws")
        return cls(
            host,
            port or _PORTS[parts.scheme],
            tls=parts.scheme in {"mqtts", "wss"},
            path=(parts.path or "/mqtt") if web else "",
        )

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Will:
    """What others read about this device's connection, retained on one topic.

    Attributes:
        topic: where it stands.
        offline: published by the broker when the connection breaks, and by the device when it leaves.
        online: published by the device once it is connected; None for nothing.
        retain: whether the broker keeps either for later subscribers.
    """

    topic: str
    offline: bytes = b"offline"
    online: bytes | None = b"online"
    retain: bool = True


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """The connection to the cloud's brokers.

    Attributes:
        brokers: addresses in order of preference; the next is tried when one does not answer.
        client_id: unique among all clients of the broker; usually the device's name.
        protocol: version of MQTT, 5 or 3.1.1; auto tries 5 first and falls back.
        username: empty for none.
        password_file: file whose first line is the password.
        ca_file: certificates to trust instead of the system's.
        certificate_file: the device's own certificate (PEM), with `key_file`.
        key_file: the certificate's private key (PEM).
        keepalive_s: longest silence before the connection is probed, seconds.
        connect_timeout_s: for each of TCP connect, TLS handshake and the broker's first answer, seconds.
        ack_timeout_s: a broker that leaves a message unacknowledged for longer is given up, seconds.
        session_expiry_s: how long the broker keeps the session of an absent device, seconds.
        window: messages sent and not yet acknowledged; the broker may ask for fewer.
        receive_window: messages that the broker may send before the first is acknowledged.
        max_incoming: bytes of the largest packet taken from the broker.
        bandwidth_bit_s: bound on what is sent, bits a second, 0 for none; escalations do not wait for it.
        batch_kib: telemetry of a stream that waits goes as one compressed message of up to so much before
            compression, KiB; 0 sends each by itself. Receivers must know batches.
        quiet_hours: stretches of the day, local time, in which telemetry waits, ``22:00-06:00``.
        sparkplug_group: of the table sync only: publish telemetry as Sparkplug B under this group; empty for JSON.
        return_after_s: on a later broker of the list, an earlier one is tried again after this and so on,
            seconds; 0 stays.
        backoff_min_s: bound of the first pause before connecting again, seconds.
        backoff_max_s: bound of the longest, seconds.
    """

    brokers: tuple[str, ...] = ("mqtt://localhost:1883",)
    client_id: str = "edge-agent"
    protocol: str = "auto"
    username: str = ""
    password_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    keepalive_s: int = 60
    connect_timeout_s: float = 10.0
    ack_timeout_s: float = 30.0
    session_expiry_s: int = 86_400
    window: int = 100
    receive_window: int = 200
    max_incoming: int = 256 << 10
    bandwidth_bit_s: int = 0
    batch_kib: int = 0
    quiet_hours: tuple[str, ...] = ()
    sparkplug_group: str = ""
    return_after_s: float = 900.0
    backoff_min_s: float = 1.0
    backoff_max_s: float = 120.0

    def __post_init__(self) -> None:
        if not self.brokers:
            raise BadConfig("at least one broker is needed", where="brokers")
        for url in self.brokers:
            BrokerAddress.parse(url)
        if self.protocol not in {"auto", "5", "3.1.1"}:
            raise BadConfig("must be auto, 5 or 3.1.1", where="protocol")
        self._check_identity()
        QuietHours.parse(self.quiet_hours)
        if not _GROUP.fullmatch(self.sparkplug_group):
            raise BadConfig("must be one level of a topic, without / + #", where="sparkplug_group")
        check_range("bandwidth_bit_s", self.bandwidth_bit_s, 0, 10**12)
        check_range("batch_kib", self.batch_kib, 0, 4096)
        check_range("keepalive_s", self.keepalive_s, 5, 65_535)
        check_range("connect_timeout_s", self.connect_timeout_s, 0.1, 300)
        check_range("ack_timeout_s", self.ack_timeout_s, 0.1, 3600)
        check_range("session_expiry_s", self.session_expiry_s, 0, 0xFFFF_FFFE)
        check_range("window", self.window, 1, 65_535)
        check_range("receive_window", self.receive_window, 1, 65_535)
        check_range("max_incoming", self.max_incoming, 1024, 256 << 20)
        check_range("return_after_s", self.return_after_s, 0, 30 * 86_400)
        check_range("backoff_min_s", self.backoff_min_s, 0.01, self.backoff_max_s)
        check_range("backoff_max_s", self.backoff_max_s, 0.01, 86_400)

    @property
    def addresses(self) -> tuple[BrokerAddress, ...]:
        """The brokers, parsed."""
        return tuple(BrokerAddress.parse(url) for url in self.brokers)

    def _check_identity(self) -> None:
        if not self.client_id or len(self.client_id.encode()) > 128:
            raise BadConfig("must be 1 to 128 bytes long", where="client_id")
        if (self.certificate_file is None) != (self.key_file is None):
            raise BadConfig("a certificate and its key go together", where="key_file")
