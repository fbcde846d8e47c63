"""Installing, activating, going back, and what a damaged disk leaves of it."""

import threading
from pathlib import Path

import pytest

from agent.errors import Altered, BadRequest, NotFound, NotReachable, StorageFailed
from agent.registry import Registry
from agent.types import ModelRef
from tests.support.fleet import Fleet

V1, V2, V3 = (ModelRef("negator", version) for version in ("1.0.0", "1.1.0", "1.2.0"))


@pytest.fixture
def two(fleet: Fleet) -> Fleet:
    """A device that was updated once."""
    fleet.publish("1.0.0")
    fleet.install()
    fleet.publish("1.1.0")
    fleet.install()
    return fleet


def versions(registry: Registry) -> list[tuple[str, bool]]:
    return [(model.ref.version, model.active) for model in registry.list()]


def test_a_registry_leaves_nothing_on_the_disk_until_it_is_used(
    fleet: Fleet, tmp_path: Path
) -> None:
    registry = Registry(tmp_path / "fresh", clock=fleet.clock)
    assert registry.list() == []
    assert not registry.provisioned
    with pytest.raises(NotFound):
        registry.open("negator")
    assert not (tmp_path / "fresh").exists()


def test_the_newest_release_is_installed_unless_another_is_named(fleet: Fleet) -> None:
    for version in ("1.0.0", "1.2.0", "1.10.0", "2.0.0-rc.1"):
        fleet.publish(version)
    assert fleet.install().ref.version == "1.10.0"
    assert fleet.install("1.2.0").ref.version == "1.2.0"


def test_what_is_opened_is_what_was_published(fleet: Fleet) -> None:
    fleet.publish("1.0.0")
    fleet.install()
    model = fleet.restarted().open("negator")
    package = fleet.directory / "packages" / "negator" / "1.0.0"
    assert dict(model.files) == {p.name: p.read_bytes() for p in package.iterdir()}
    assert model.model == (package / "model.onnx").read_bytes()


def test_an_update_keeps_the_version_before_it_and_no_more(two: Fleet) -> None:
    assert versions(two.registry) == [("1.1.0", True), ("1.0.0", False)]
    two.publish("1.2.0")
    two.install()
    assert versions(two.registry) == [("1.2.0", True), ("1.1.0", False)]
    needed = two.registry._read().blobs()
    found = {path.name for path in (two.models / "blobs").glob("*/*")}
    assert found == needed


def test_rollback_needs_no_network_and_can_be_undone(two: Fleet) -> None:
    (two.directory / "repository").rename(two.directory / "gone")
    two.registry.rollback("negator")
    assert two.restarted().open("negator").ref == V1
    two.registry.rollback("negator")
    assert two.restarted().open("negator").ref == V2


def test_rollback_without_an_earlier_version_is_refused(fleet: Fleet) -> None:
    fleet.publish()
    fleet.install()
    with pytest.raises(NotFound, match="no earlier version"):
        fleet.registry.rollback("negator")


def test_activation_verifies(two: Fleet) -> None:
    spoil(two, V1, "model.onnx")
    with pytest.raises(Altered):
        two.registry.activate(V1)
    assert two.registry.open("negator").ref == V2


def test_the_active_version_cannot_be_removed_while_another_could_answer(two: Fleet) -> None:
    with pytest.raises(BadRequest, match="active"):
        two.registry.remove(V2)
    two.registry.remove(V1)
    two.registry.remove(V2)
    assert two.registry.list() == []
    assert not list((two.models / "blobs").glob("*/*"))


def test_installing_again_mends_a_damaged_file(fleet: Fleet) -> None:
    fleet.publish()
    fleet.install()
    spoil(fleet, V1, "model.onnx")
    with pytest.raises(Altered, match="not what was signed"):
        fleet.registry.open("negator")
    fleet.install()
    assert fleet.registry.open("negator").ref == V1


def test_a_damaged_active_version_gives_way_to_the_one_before(two: Fleet) -> None:
    spoil(two, V2, "model.onnx")
    assert two.restarted().open("negator").ref == V1
    with pytest.raises(Altered):
        two.restarted().open("negator", "1.1.0")


def test_a_missing_file_is_as_bad_as_an_altered_one(two: Fleet) -> None:
    for ref in (V1, V2):
        blob(two, ref, "golden.npz").unlink()
    with pytest.raises(Altered, match="missing"):
        two.registry.open("negator")


def test_a_download_that_was_cut_goes_on_where_it_stopped(fleet: Fleet) -> None:
    fleet.publish()
    source = fleet.source()
    (path,) = source.paths(".onnx")
    manifest = len(source.files[source.paths(".toml")[0]])
    golden = len(source.files[source.paths(".npz")[0]])
    source.cut_after = manifest + golden + 64
    with pytest.raises(NotReachable):
        fleet.registry.install(source, "negator")
    source.cut_after, source.reads = None, []
    assert fleet.registry.install(source, "negator").active
    offsets = dict(item for item in source.reads if item[0].startswith("targets/"))
    assert offsets == {path: 64}
    assert not list((fleet.models / "partial").iterdir())


@pytest.mark.parametrize("left", [b"\0" * 64, b"x" * 100_000, b""])
def test_a_damaged_partial_download_is_started_over(fleet: Fleet, left: bytes) -> None:
    fleet.publish()
    source = fleet.source()
    (path,) = source.paths(".onnx")
    sha256 = Path(path).name.split(".")[0]
    (fleet.models / "partial").mkdir()
    (fleet.models / "partial" / sha256).write_bytes(left)
    assert fleet.registry.install(source, "negator").active


def test_a_file_that_two_versions_share_is_stored_and_fetched_once(fleet: Fleet) -> None:
    import shutil

    fleet.publish("1.0.0")
    fleet.install()
    package = fleet.directory / "packages" / "negator"
    shutil.copytree(package / "1.0.0", package / "2.0.0")
    manifest = package / "2.0.0" / "model.toml"
    manifest.write_text(manifest.read_text().replace('"1.0.0"', '"2.0.0"'))
    fleet.repository.publish(package / "2.0.0")
    source = fleet.source()
    fleet.registry.install(source, "negator")
    fetched = [path for path, _ in source.reads if path.startswith("targets/")]
    assert [path.rpartition(".")[2] for path in fetched] == ["toml"]


DAMAGE = {
    "truncated": lambda data: data[: len(data) // 2],
    "emptied": lambda _: b"",
    "zero-filled": lambda data: bytes(len(data)),
    "replaced by junk": lambda data: b"{" * len(data),
}


def state_files(fleet: Fleet) -> list[str]:
    return sorted(
        str(path.relative_to(fleet.models))
        for path in fleet.models.rglob("*")
        if path.is_file() and path.name != "lock"
    )


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_any_one_damaged_file_leaves_the_old_or_the_new_version(two: Fleet, damage: object) -> None:
    """And installing again, as for an update, mends it."""
    for name in state_files(two):
        path = two.models / name
        whole = path.read_bytes()
        path.write_bytes(damage(whole))  # type: ignore[operator]
        registry = two.restarted()
        assert registry.open("negator").ref in {V1, V2}
        assert registry.install(two.address, "negator").ref == V2
        assert two.restarted().open("negator").ref == V2
        path.write_bytes(whole)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_all_files_damaged_at_once_still_start_and_can_be_mended(
    two: Fleet, damage: object
) -> None:
    """Only the root that the device was given survives, as the operator may put it back by hand."""
    for name in state_files(two):
        if name != "root.json":
            path = two.models / name
            path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    registry = two.restarted()
    assert registry.list() == []
    assert registry.provisioned
    assert registry.install(two.address, "negator").ref == V2
    assert two.restarted().open("negator").ref == V2


def test_a_disk_that_fails_is_an_error_that_says_so(fleet: Fleet) -> None:
    fleet.publish()
    (fleet.models / "blobs").write_bytes(b"a file where a directory should be")
    with pytest.raises(StorageFailed):
        fleet.install()


def test_two_installations_at_once_both_hold(fleet: Fleet) -> None:
    """The lock makes one wait for the other; neither loses what the other did."""
    names = ["alpha", "beta", "gamma"]
    for name in names:
        fleet.publish(name=name)
    threads = [
        threading.Thread(target=fleet.restarted().install, args=(fleet.address, name))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(model.ref.name for model in fleet.registry.list()) == names
    assert all(model.active for model in fleet.registry.list())


def blob(fleet: Fleet, ref: ModelRef, path: str) -> Path:
    record = fleet.registry._read().find(ref.name, ref.version)
    entry = next(entry for entry in record.files if entry.path == path)
    return fleet.registry._blobs.path(entry.sha256)


def spoil(fleet: Fleet, ref: ModelRef, path: str) -> None:
    """Flip one bit, as a failing card does."""
    target = blob(fleet, ref, path)
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 1
    target.write_bytes(bytes(data))
