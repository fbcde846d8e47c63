"""`edge-agent models` as an operator types it: from a stick, a web server and a broker, and what goes
wrong with models, repositories, disks and clocks.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.sync.settings import LinkSettings
from agent.types import ModelRef
from tests.fakes.web_server import cut_after, web_server
from tests.support.broker import Mosquitto
from tests.support.certificates import make_certificates
from tests.support.device import ROOT, Device, command, device
from tests.support.fleet import DAY, Fleet, WallClock
from tests.support.onnx_model import onnx_model
from tests.support.packages import large_package, small_package
from tests.system.conftest import MakeDevice
from tests.system.test_bad_input import can_mount
from tests.trust.test_attacks import reseal, sign_as_it_is
from tools.fleet.repository import Repository

Y1970, Y2100 = 1_000.0, 4_102_444_800.0  # seconds since the epoch


class Site:
    """An operator's repository, and a device that trusts it; commands as they are typed."""

    def __init__(self, directory: Path, device: Device) -> None:
        self.directory = directory
        self.device = device
        self.clock = WallClock(time.time())
        self.repository = Repository.create(
            directory / "repository", directory / "keys", clock=self.clock
        )
        device.write_config()
        self.models("provision", str(self.root))

    @property
    def root(self) -> Path:
        return self.directory / "repository" / "metadata" / "1.root.json"

    @property
    def address(self) -> str:
        return str(self.directory / "repository")

    def publish(self, version: str = "1.0.0", make: Callable[..., Path] = small_package) -> None:
        package = self.directory / "packages" / version
        self.repository.publish(make(package, version=version))

    def models(self, *arguments: str, status: int = 0, now: float | None = None) -> str:
        """`edge-agent models …`; what it printed."""
        program = command()
        if now is not None:
            script = ROOT / "tests" / "support" / "shifted_command.py"
            program = [sys.executable, str(script), str(now)]
        done = subprocess.run(
            [*program, "models", "--config", str(self.device.config_path), *arguments],
            cwd=self.device.directory, env=self.device._env(), capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        shown = done.stdout + done.stderr
        assert done.returncode == status, shown
        assert "Traceback" not in shown
        return shown

    def install(self, status: int = 0, now: float | None = None, source: str = "") -> str:
        return self.models(
            "install", "negator", "--from", source or self.address, status=status, now=now
        )  # fmt: skip

    def installed(self) -> list[tuple[str, bool]]:
        found = json.loads(self.models("list", "--json"))
        return [(model["version"], model["active"]) for model in found]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with device(tmp_path / "d") as found:
        yield Site(tmp_path / "site", found)


# Where models come from.


def test_from_a_directory_a_file_url_and_the_configuration(site: Site) -> None:
    site.publish()
    site.install()
    site.install(source=f"file://{site.address}")
    (site.directory / "stick").mkdir()
    site.repository.export(site.directory / "stick")
    site.install(source=str(site.directory / "stick"))
    site.device.config = f'[models]\nrepository = "{site.address}"\n'
    site.device.write_config()
    assert "is verified, installed and active" in site.models("install", "negator")


def test_a_directory_that_holds_no_repository_is_named(site: Site, tmp_path: Path) -> None:
    shown = site.install(source=str(tmp_path), status=2)
    assert "there is no repository here" in shown
    assert str(tmp_path) in shown


def test_without_a_repository_the_error_says_where_to_name_one(site: Site) -> None:
    shown = site.models("install", "negator", status=2)
    assert "repository = " in shown
    assert "--from" in shown


@pytest.mark.parametrize("address", ["ftp://host/models", "mqtt://", "https://", "mqtt://h/path"])
def test_an_address_that_is_none(site: Site, address: str) -> None:
    assert "[config.invalid]" in site.install(source=address, status=2)


def test_by_https_with_an_authority_of_ones_own(site: Site, tmp_path: Path) -> None:
    site.publish()
    (tmp_path / "tls").mkdir()
    certificates = make_certificates(tmp_path / "tls")
    with web_server(certificates) as web:
        web.publish(site.directory / "repository")
        shown = site.install(source=web.url, status=1)
        assert "models.ca_file" in shown
        assert "[link.unreachable]" in shown
        site.device.config = (
            f'[models]\nrepository = "{web.url}"\nca_file = "{certificates["ca"]}"\n'
        )
        site.device.write_config()
        web.faults[".onnx"] = cut_after(20, times=1)
        site.models("install", "negator")
        assert web.ranges(".onnx")[-1] == "bytes=20-"
    assert site.installed() == [("1.0.0", True)]
    site.models("verify", "negator")


def mirror(site: Site, broker: Mosquitto, *, everything: bool = False) -> None:
    link = LinkSettings(brokers=(broker.url,), client_id="edge-fleet")
    site.repository.mirror(link, "edge", everything=everything)


def test_by_mqtt_named_in_the_configuration(site: Site, broker: Mosquitto) -> None:
    site.publish()
    mirror(site, broker)
    site.device.config = (
        f'[models]\nrepository = "{broker.url}"\n[sync]\nbrokers = ["{broker.url}"]\n'
    )
    site.device.write_config()
    site.models("install", "negator")
    assert site.installed() == [("1.0.0", True)]
    assert "has no such model" in site.models("install", "absent", status=2)


def test_a_device_killed_while_it_downloads_goes_on_where_it_was(
    site: Site, broker: Mosquitto
) -> None:
    """The broker lacks a chunk, so that the kill falls into the download for certain."""
    site.publish(make=large_package)
    mirror(site, broker)
    topics = subprocess.run(
        ["mosquitto_sub", "-p", str(broker.port), "-t", "edge/blob/#", "-W", "1", "-F", "%l %t"],
        capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    chunks = [t for size, t in zip(topics[::2], topics[1::2], strict=True) if int(size) > 16_384]
    lost = chunks[len(chunks) // 2]
    subprocess.run(["mosquitto_pub", "-p", str(broker.port), "-r", "-n", "-t", lost], check=True)
    partial = site.device.state / "models" / "partial"
    program = [*command(), "models", "--config", str(site.device.config_path)]
    process = subprocess.Popen(
        [*program, "install", "negator", "--from", broker.url],
        env=site.device._env(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not any(path.stat().st_size > 200_000 for path in partial.glob("*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = max(path.stat().st_size for path in partial.glob("*"))
    assert site.installed() == []
    mirror(site, broker, everything=True)
    assert kept > 0
    site.install(source=broker.url)
    assert site.installed() == [("1.0.0", True)]
    assert list(partial.glob("*")) == []


# Keys that change, and what is stored.


def test_refresh_takes_in_new_keys_and_names_what_they_leave_behind(site: Site) -> None:
    site.publish("1.0.0")
    site.install()
    site.publish("1.1.0")
    site.install()
    site.repository.withdraw(ModelRef("negator", "1.0.0"))
    site.repository.rotate_key("targets")
    shown = site.models("refresh", "--from", site.address)
    assert "negator 1.0.0" in shown
    assert "[trust.revoked]" in shown
    assert "negator 1.1.0" not in shown
    assert "[trust.revoked]" in site.models("verify", "negator", "--version", "1.0.0", status=3)
    site.models("verify", "negator")


def test_fsck_says_what_is_wrong_and_mends_it(site: Site) -> None:
    site.publish()
    site.install()
    assert "Everything is whole" in site.models("fsck")
    models = site.device.state / "models"
    whole = (models / "state.json").read_bytes()
    (models / "state.json").write_bytes(bytes(len(whole)))
    (blob,) = (p for p in (models / "blobs").rglob("*") if p.is_file() and b"Neg" in p.read_bytes())
    blob.write_bytes(b"")
    shown = site.models("fsck", status=1)
    assert "state.json" in shown
    assert "[trust.altered]" in shown
    assert "--repair" in shown
    assert "edge-agent models install negator" in site.models("fsck", "--repair", status=1)
    assert (models / "state.json").read_bytes() == whole
    assert json.loads(site.models("fsck", "--json", status=1))[0]["code"] == "trust.altered"
    site.install()
    site.models("fsck")


def test_the_daemon_mends_what_a_power_cut_left_and_starts(make_device: MakeDevice) -> None:
    damaged = make_device()
    copy = damaged.state / "models" / "state.copy.json"
    whole = copy.read_bytes()
    copy.write_bytes(whole[:100])
    orphan = damaged.state / "models" / "blobs" / "ab" / ("ab" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"x")
    damaged.start()
    assert copy.read_bytes() == whole
    assert not orphan.exists()
    assert "state.copy.json" in damaged.log


# Models that cannot be used here.


def test_an_operator_that_the_runtime_lacks_is_named(site: Site) -> None:
    package = small_package(site.directory / "packages" / "1.0.0")
    reseal(package, onnx_model("Magic", domain="com.example"))
    site.repository.publish(package)
    shown = site.install(status=2)
    assert "com.example:Magic" in shown
    assert "[model.invalid]" in shown
    assert site.installed() == []


@pytest.mark.skipif(not shutil.which("unshare") or not can_mount(), reason="needs user namespaces")
def test_a_file_of_3_gb_on_a_disk_of_2_gb_is_refused_before_it_is_fetched(site: Site) -> None:
    """The signed size alone decides, so the file itself need not exist."""
    from tuf.api.metadata import TargetFile

    size = 3 * 2**30
    site.publish()
    manifest = site.directory / "packages" / "1.0.0" / "model.toml"
    head, _, tail = manifest.read_text().partition("size = ")
    text = f"{head}size = {size}\n{tail.partition(chr(10))[2]}".encode()
    fleet = Fleet(site.directory, site.clock, site.clock, site.repository, None)  # type: ignore[arg-type]
    sign_as_it_is(fleet, "negator/1.0.0/model.toml", text)
    store = site.repository.metadata
    targets = store.targets()
    old = targets.signed.targets["negator/1.0.0/model.onnx"]
    targets.signed.targets[old.path] = TargetFile(size, old.hashes, old.path)
    store.commit({"targets": targets})

    mount = 'mount -t tmpfs -o size=2g tmpfs "$0" && cp -r "$0".before "$0"/models && exec "$@"'
    (site.device.state / "models").rename(f"{site.device.state}.before")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, str(site.device.state), *command(), "models",
         "--config", str(site.device.config_path), "install", "negator", "--from", site.address],
        env=site.device._env(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "[storage.failed]" in done.stderr
    assert "3072 MiB" in done.stderr.replace("3073", "3072")
    assert "edge-agent models remove" in done.stderr


def test_a_repository_of_a_newer_layout_asks_for_a_newer_agent(site: Site) -> None:
    from agent.trust.updater import LAYOUT_FIELD

    site.publish()
    store = site.repository.metadata
    targets = store.targets()
    targets.signed.unrecognized_fields[LAYOUT_FIELD] = 2
    store.commit({"targets": targets})
    shown = site.install(status=2)
    assert "layout 2 is newer" in shown
    assert "Update the agent first" in shown
    assert "[repository.invalid]" in shown


# Clocks.


def test_a_clock_in_1970_lets_a_current_repository_in(site: Site) -> None:
    site.publish()
    site.install(now=Y1970)
    assert site.installed() == [("1.0.0", True)]


def test_a_clock_in_2100_refuses_and_is_forgiven_once_it_is_right(site: Site) -> None:
    site.publish("1.0.0")
    site.install()
    site.publish("1.1.0")
    shown = site.install(status=3, now=Y2100)
    assert "[trust.expired]" in shown
    assert "clock" in shown
    site.models("verify", "negator", now=Y2100)  # what is installed goes on
    site.install()
    assert site.installed()[0] == ("1.1.0", True)


def test_withheld_timestamps_are_refused_once_they_have_expired(site: Site) -> None:
    """Freeze: the attacker serves what was true a month ago."""
    site.publish("1.0.0")
    site.install()
    frozen = site.directory / "frozen"
    shutil.copytree(site.directory / "repository", frozen)
    later = time.time() + 40 * DAY
    assert "[trust.expired]" in site.install(status=3, now=later, source=str(frozen))
    site.models("verify", "negator", now=later)
    site.clock.now = later
    site.publish("1.1.0")
    site.install(now=later)
    # The clock falls back, to when the old repository was valid.
    assert "[trust.rolled_back]" in site.install(status=3, source=str(frozen))
    assert site.installed()[0] == ("1.1.0", True)
