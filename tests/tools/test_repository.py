"""The operator's repository: what is published, what is refused, how keys change."""

from pathlib import Path

import pytest

from agent.errors import Altered, BadKey, BadManifest, BadRequest, NotFound
from agent.types import ModelRef
from tests.support.fleet import DAY, Fleet, make_fleet
from tests.support.packages import small_package


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return make_fleet(tmp_path)


def take_keys_away(fleet: Fleet, role: str) -> list[tuple[Path, bytes]]:
    """As when they lie in a safe."""
    paths = sorted((fleet.directory / "keys").glob(f"{role}-*.pem"))
    taken = [(path, path.read_bytes()) for path in paths]
    for path in paths:
        path.unlink()
    return taken


def test_a_repository_is_not_made_twice(fleet: Fleet) -> None:
    from tools.fleet.repository import Repository

    with pytest.raises(BadRequest, match="already"):
        Repository.create(fleet.directory / "repository", fleet.directory / "keys")


def test_what_is_published_is_listed_with_its_signer(fleet: Fleet) -> None:
    fleet.publish("1.0.0")
    fleet.repository.delegate("vision", ["vision-*"])
    fleet.publish("1.0.0", name="vision-cat", role="vision")
    assert fleet.repository.published() == {
        ModelRef("negator", "1.0.0"): "targets",
        ModelRef("vision-cat", "1.0.0"): "vision",
    }


def test_a_published_version_never_changes(fleet: Fleet, tmp_path: Path) -> None:
    fleet.publish("1.0.0")
    fleet.publish("1.0.0")  # the same content again is no change
    package = small_package(tmp_path / "p", version="1.0.0")
    manifest = package / "model.toml"
    manifest.write_text(manifest.read_text() + "# changed\n")
    with pytest.raises(BadRequest, match="other content"):
        fleet.repository.publish(package)


def test_a_package_that_is_not_its_manifest_is_not_signed(fleet: Fleet, tmp_path: Path) -> None:
    package = small_package(tmp_path / "p")
    (package / "model.onnx").write_bytes(b"other")
    with pytest.raises(Altered, match="manifest says"):
        fleet.repository.publish(package)
    (package / "model.toml").unlink()
    with pytest.raises(BadManifest, match="cannot be read"):
        fleet.repository.publish(package)
    assert fleet.repository.published() == {}


def test_publishing_needs_no_root_key(fleet: Fleet) -> None:
    take_keys_away(fleet, "root")
    fleet.publish()
    assert fleet.install().active
    with pytest.raises(BadKey, match="role root"):
        fleet.repository.rotate_key("targets")


def test_cron_needs_the_timestamps_key_only(fleet: Fleet) -> None:
    for role in ("root", "targets", "snapshot"):
        take_keys_away(fleet, role)
    fleet.operator.now += 20 * DAY
    assert fleet.repository.refresh() == ["timestamp"]


def test_refresh_renews_what_is_half_way_to_its_expiry(fleet: Fleet) -> None:
    fleet.publish()
    fleet.operator.now += 50 * DAY
    assert fleet.repository.refresh() == ["snapshot", "timestamp"]
    fleet.operator.now += 150 * DAY
    assert fleet.repository.refresh() == ["targets", "snapshot", "timestamp"]
    fleet.operator.now += 200 * DAY
    assert fleet.repository.refresh() == ["root", "targets", "snapshot", "timestamp"]
    fleet.clock.now = fleet.operator.now
    assert fleet.install().active


def test_withdrawing_takes_a_version_from_new_devices(fleet: Fleet) -> None:
    fleet.publish("1.0.0")
    fleet.publish("1.1.0")
    fleet.repository.withdraw(ModelRef("negator", "1.1.0"))
    assert fleet.install().ref.version == "1.0.0"
    with pytest.raises(NotFound):
        fleet.repository.withdraw(ModelRef("negator", "1.1.0"))


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_every_role_can_be_rotated_under_a_device(fleet: Fleet, role: str) -> None:
    fleet.publish("1.0.0")
    fleet.install()
    fleet.repository.rotate_key(role)
    fleet.publish("1.1.0")
    assert fleet.install().ref.version == "1.1.0"


def test_many_rotations_are_followed_in_one_step(fleet: Fleet) -> None:
    for _ in range(12):
        fleet.repository.rotate_key("root")
    fleet.publish()
    assert fleet.install().active


def test_a_role_keeps_enough_keys(fleet: Fleet) -> None:
    (status,) = [s for s in fleet.repository.inspect() if s.role == "targets"]
    with pytest.raises(BadRequest, match="too few keys"):
        fleet.repository.revoke_key(status.keys[0])
    fleet.repository.add_key("targets")
    assert fleet.repository.revoke_key(status.keys[0][:8]) == ["targets"]
    fleet.publish()
    assert fleet.install().signers != status.keys


def test_two_of_three_root_keys_are_enough_and_one_is_not(tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path, root_keys=3, root_threshold=2)
    taken = take_keys_away(fleet, "root")
    with pytest.raises(BadKey, match="not enough"):
        fleet.repository.rotate_key("timestamp")
    for path, data in taken[:2]:
        path.write_bytes(data)
        path.chmod(0o600)
    fleet.repository.rotate_key("timestamp")
    fleet.publish()
    assert fleet.install().active


def test_refresh_completes_a_change_of_keys_that_was_cut_off(fleet: Fleet) -> None:
    """The new root was written, and the power failed before the targets were signed again."""
    fleet.publish()
    store = fleet.repository.metadata
    commit = take_keys_away(fleet, "timestamp")
    with pytest.raises(BadKey):
        fleet.repository.rotate_key("targets")
    for path, data in commit:
        path.write_bytes(data)
        path.chmod(0o600)
    assert store.root().signed.version == 2
    fleet.repository.refresh()
    assert fleet.install().active


def test_a_stick_holds_all_that_a_device_needs(fleet: Fleet, tmp_path: Path) -> None:
    fleet.publish()
    (tmp_path / "usb").mkdir()
    target = fleet.repository.export(tmp_path / "usb")
    assert not list(target.rglob("*.pem"))
    assert fleet.registry.install(str(target), "negator").active
    fleet.publish("1.1.0")
    assert fleet.repository.export(tmp_path / "usb") == target
    assert fleet.registry.install(f"file://{target}", "negator").ref.version == "1.1.0"


@pytest.mark.parametrize("role", ["targets", "root"])
def test_a_team_cannot_take_a_roles_name(fleet: Fleet, role: str) -> None:
    with pytest.raises(BadRequest):
        fleet.repository.delegate(role, ["x-*"])


def test_there_is_no_repository_where_none_was_made(tmp_path: Path) -> None:
    from tools.fleet.repository import Repository

    with pytest.raises(NotFound, match="edge-fleet init"):
        Repository(tmp_path / "none", tmp_path / "keys").root_bytes()
