"""`edge-agent enroll`, and the daemon that shows its certificate to a broker that asks for one."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.authority import PASSWORD, USER, Authority, authority
from tests.support.broker import free_port, mosquitto
from tests.support.device import Device, eventually
from tests.system.conftest import MakeDevice


@pytest.fixture
def ca(tmp_path: Path):
    with authority(tmp_path / "ca") as running:
        yield running


def config(ca: Authority, port: int, password: Path) -> str:
    return f"""
[sync]
brokers = ["mqtts://127.0.0.1:{port}"]
ca_file = "{ca.ca_file}"
[enrolment]
est = "{ca.url}"
ca_file = "{ca.ca_file}"
username = "{USER}"
password_file = "{password}"
"""


def strict(ca: Authority, port: int) -> str:
    """A listener that takes nobody without a certificate."""
    return (
        f"listener {port} 127.0.0.1\ncafile {ca.ca_file}\ncertfile {ca.directory}/server.pem\n"
        f"keyfile {ca.directory}/server.key\nrequire_certificate true\n"
    )


def test_an_enrolled_device_is_let_in_by_its_certificate(
    make_device: MakeDevice, ca: Authority, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(PASSWORD)
    port = free_port()
    with mosquitto(tmp_path / "broker", strict(ca, port)):
        device: Device = make_device(config(ca, port, tmp_path / "password"))
        device.write_config()
        said = device.run("enroll").stdout
        assert "Enrolled as CN=dev-1" in said
        assert "issued by  CN=test authority" in said
        device.start()
        eventually(lambda: device.get("/api/status").json["link"]["connected"], what="the link")
        eventually(
            lambda: device.metric("certificate_left_seconds") > 0, what="its look at the time"
        )
        assert device.metric("certificate_left_seconds") < 30 * 86_400


def test_the_way_by_hand_says_each_next_step(
    make_device: MakeDevice, ca: Authority, tmp_path: Path
) -> None:
    device: Device = make_device("")
    device.write_config()
    assert "--certificate SIGNED.crt" in device.run("enroll", "--request", "device.csr").stdout
    request = x509.load_pem_x509_csr((device.directory / "device.csr").read_bytes())
    (device.directory / "signed.crt").write_bytes(ca.sign(request).public_bytes(Encoding.PEM))
    assert "Enrolled as CN=dev-1" in device.run("enroll", "--certificate", "signed.crt").stdout


def test_what_is_wrong_is_said_in_a_line(make_device: MakeDevice, ca: Authority) -> None:
    device: Device = make_device("")
    device.write_config()
    refused = device.run("enroll", check=False)
    assert (refused.returncode, "--request" in refused.stderr) == (2, True)
    refused = device.run("enroll", "--est", ca.url, check=False)
    assert (refused.returncode, "certificate" in refused.stderr) == (1, True)
    assert "Traceback" not in refused.stderr
