"""One test for each attack on the way from the operator to the device; each ends in its own code."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.errors import (
    AgentError,
    Altered,
    BadManifest,
    BadModel,
    BadRepository,
    Expired,
    GoldenFailed,
    NotFound,
    NotReachable,
    Refused,
    Revoked,
    RolledBack,
    StorageFailed,
    TooLarge,
    Unsigned,
)
from agent.registry import Registry, layout
from agent.types import ModelRef
from tests.support.fleet import DAY, Fleet, make_fleet
from tests.support.onnx_model import onnx_model
from tests.support.packages import small_package, write_package


def refused(fleet: Fleet, expected: type[AgentError], source: Any = None) -> AgentError:
    """Installing fails just so, says what to search for, and leaves nothing active."""
    before = fleet.registry.list()
    with pytest.raises(expected) as caught:
        fleet.registry.install(source or fleet.address, "negator")
    assert type(caught.value) is expected
    assert caught.value.message
    assert fleet.registry.list() == before
    return caught.value


def rewrite(data: bytes, change: Any) -> bytes:
    document = json.loads(data)
    change(document)
    return json.dumps(document).encode()


def test_a_package_of_another_root_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    stranger = make_fleet(tmp_path / "stranger")
    stranger.publish()
    refused(fleet, Unsigned, stranger.source())


def test_targets_without_a_signature_are_refused(fleet: Fleet) -> None:
    fleet.publish()
    source = fleet.source()
    path = source.paths(".targets.json")[-1]
    source.files[path] = rewrite(source.files[path], lambda d: d["signatures"].clear())
    refused(fleet, Altered, source)  # the snapshot vouches for the bytes


def test_a_timestamp_without_a_signature_is_refused(fleet: Fleet) -> None:
    fleet.publish()
    source = fleet.source()
    path = "metadata/timestamp.json"
    source.files[path] = rewrite(source.files[path], lambda d: d["signatures"].clear())
    refused(fleet, Unsigned, source)


def test_a_timestamp_changed_after_signing_is_refused(fleet: Fleet) -> None:
    fleet.publish()
    source = fleet.source()
    path = "metadata/timestamp.json"
    source.files[path] = rewrite(
        source.files[path], lambda d: d["signed"].update(expires="2099-01-01T00:00:00Z")
    )
    refused(fleet, Unsigned, source)


def test_fewer_signatures_than_the_threshold_are_refused(tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path)
    fleet.repository.add_key("targets")
    fleet.repository.set_threshold("targets", 2)
    fleet.publish()
    source = fleet.source()
    path = source.paths(".targets.json")[-1]
    assert len(json.loads(source.files[path])["signatures"]) == 2
    fleet.install()
    # Without the snapshot's digest in the way: the rule itself, as it is applied at each load.
    from agent.trust.updater import Evidence, verify

    root = fleet.repository.root_bytes()
    single = rewrite(source.files[path], lambda d: d["signatures"].pop())
    with pytest.raises(Unsigned):
        verify(root, Evidence((("targets", single),)), {}, "negator/1.0.0/")


@pytest.mark.parametrize("ending", [".onnx", ".npz", ".toml"])
def test_altered_bytes_are_refused(fleet: Fleet, ending: str) -> None:
    fleet.publish()
    source = fleet.source()
    path = source.paths(ending)[0]
    source.files[path] = source.files[path][:-1] + bytes([source.files[path][-1] ^ 1])
    refused(fleet, Altered, source)


def test_a_truncated_file_is_refused(fleet: Fleet) -> None:
    fleet.publish()
    source = fleet.source()
    path = source.paths(".onnx")[0]
    source.files[path] = source.files[path][:-1]
    refused(fleet, Altered, source)


def test_a_file_that_is_longer_than_signed_is_refused(fleet: Fleet) -> None:
    fleet.publish()
    source = fleet.source()
    source.files[source.paths(".onnx")[0]] += b"x"
    refused(fleet, Altered, source)


def test_endless_files_are_cut(fleet: Fleet) -> None:
    fleet.publish()
    source = fleet.source()
    source.endless.add(source.paths(".onnx")[0])
    refused(fleet, Altered, source)


def test_endless_metadata_is_cut(fleet: Fleet) -> None:
    fleet.publish()
    source = fleet.source()
    source.endless.add("metadata/timestamp.json")
    refused(fleet, TooLarge, source)


def test_files_of_two_packages_cannot_be_swapped(fleet: Fleet) -> None:
    fleet.publish("1.0.0")
    fleet.publish("1.1.0")
    source = fleet.source()
    old, new = source.paths(".onnx")
    source.files[old], source.files[new] = source.files[new], source.files[old]
    refused(fleet, Altered, source)


def test_expired_metadata_is_refused(fleet: Fleet) -> None:
    fleet.publish()
    fleet.clock.now += 31 * DAY
    error = refused(fleet, Expired)
    assert "edge-fleet refresh" in error.hint
    fleet.operator.now += 31 * DAY
    fleet.repository.refresh()
    assert fleet.install().active


def test_an_older_repository_is_refused(fleet: Fleet) -> None:
    fleet.publish("1.0.0")
    old = fleet.source()
    fleet.publish("1.1.0")
    fleet.install()
    refused(fleet, RolledBack, old)


def test_an_older_repository_is_refused_though_the_cache_was_lost(fleet: Fleet) -> None:
    """A power cut that empties the TUF client's files must not open the way back."""
    fleet.publish("1.0.0")
    old = fleet.source()
    fleet.publish("1.1.0")
    fleet.install()
    for path in (fleet.models / "metadata").glob("*.json"):
        path.unlink()
    refused(fleet, RolledBack, old)


def test_metadata_of_two_states_cannot_be_mixed(fleet: Fleet) -> None:
    fleet.publish("1.0.0")
    old = fleet.source()
    fleet.publish("1.1.0")
    source = fleet.source()
    newest = source.paths(".targets.json")[-1]
    source.files[newest] = old.files[old.paths(".targets.json")[-1]]
    refused(fleet, Altered, source)


def test_a_revoked_key_signs_nothing_that_loads(fleet: Fleet) -> None:
    """After the rotation reached the device, what only the stolen key signed is refused at load."""
    fleet.publish("1.0.0")
    fleet.install()
    fleet.repository.rotate_key("targets")
    fleet.repository.withdraw(ModelRef("negator", "1.0.0"))
    fleet.registry.open("negator")  # the device cannot know yet
    fleet.registry.refresh(fleet.address)
    with pytest.raises(Revoked, match="trusted no longer"):
        fleet.registry.open("negator")


def test_a_rotation_keeps_what_is_listed_again(fleet: Fleet) -> None:
    fleet.publish("1.0.0")
    before = fleet.install()
    fleet.repository.rotate_key("targets")
    fleet.registry.refresh(fleet.address)
    (after,) = fleet.registry.list()
    assert after.signers != before.signers
    assert fleet.restarted().open("negator").signers == after.signers


def test_a_root_of_only_the_new_key_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    """A new root counts only when the old root's keys signed it."""
    fleet.publish()
    stranger = make_fleet(tmp_path / "stranger")
    stranger.repository.rotate_key("root")
    source = fleet.source()
    source.files["metadata/2.root.json"] = stranger.source().files["metadata/2.root.json"]
    refused(fleet, Unsigned, source)


def test_a_newer_specification_is_told_apart(fleet: Fleet) -> None:
    fleet.publish()
    source = fleet.source()
    path = "metadata/timestamp.json"
    source.files[path] = rewrite(
        source.files[path], lambda d: d["signed"].update(spec_version="2.0.0")
    )
    assert "newer" in refused(fleet, BadRepository, source).message


def test_a_newer_layout_is_told_apart(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signed by the right keys, by tools of a release to come."""
    from tools.fleet import repository as tools

    monkeypatch.setattr(tools, "NEWEST_LAYOUT", 2)
    future = make_fleet(fleet.directory / "future")
    with pytest.raises(BadRepository, match="layout 2 is newer"):
        future.registry.install(future.address, "negator")


def test_a_directory_that_is_no_repository_is_not_found(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(fleet, NotFound, str(tmp_path / "empty"))
    refused(fleet, NotReachable, str(tmp_path / "absent"))


def test_a_model_that_is_not_published_is_not_found(fleet: Fleet) -> None:
    fleet.publish()
    with pytest.raises(NotFound):
        fleet.registry.install(fleet.address, "absent")
    with pytest.raises(NotFound):
        fleet.registry.install(fleet.address, "negator", "9.9.9")
    with pytest.raises(NotFound):
        fleet.registry.install(fleet.address, "../negator")


def test_golden_cases_that_fail_here_stop_the_activation(fleet: Fleet, tmp_path: Path) -> None:
    """Signed, whole, and computing something else: only running it can tell."""
    fleet.publish("1.0.0")
    fleet.install()
    other = small_package(tmp_path / "other", version="2.0.0")
    golden = (other / "golden.npz").read_bytes()
    abs_model = onnx_model("Abs", shape=(-1, 6))
    package = write_package(
        tmp_path / "p", abs_model, version="2.0.0", golden={"golden.npz": golden}
    )
    fleet.repository.publish(package)
    error = refused(fleet, GoldenFailed)
    assert "differs by" in error.message
    assert fleet.registry.open("negator").ref.version == "1.0.0"


def test_tensors_that_are_not_the_manifests_are_refused(fleet: Fleet, tmp_path: Path) -> None:
    package = small_package(tmp_path / "p")
    manifest = package / "model.toml"
    manifest.write_text(manifest.read_text().replace("FP32", "FP64"))
    fleet.repository.publish(package)
    refused(fleet, BadModel)


def test_an_operator_that_the_runtime_lacks_is_named(fleet: Fleet, tmp_path: Path) -> None:
    package = small_package(tmp_path / "p")
    reseal(package, onnx_model("Magic", domain="com.example"))
    fleet.repository.publish(package)
    assert "com.example:Magic" in refused(fleet, BadModel).message


def test_a_model_truncated_before_it_was_signed_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    package = small_package(tmp_path / "p")
    model = (package / "model.onnx").read_bytes()
    reseal(package, model[: len(model) // 2])
    fleet.repository.publish(package)
    refused(fleet, BadModel)


def test_an_unknown_key_in_a_signed_manifest_is_named(fleet: Fleet, tmp_path: Path) -> None:
    """An operator's tool of another release may let it pass; the device does not."""
    package = small_package(tmp_path / "p")
    fleet.repository.publish(package)
    path = package / "model.toml"
    path.write_text("colour = 3\n" + path.read_text())
    sign_as_it_is(fleet, "negator/1.0.0/model.toml", path.read_bytes())
    assert "colour" in refused(fleet, BadManifest).where


def test_a_manifest_that_names_another_model_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    package = small_package(tmp_path / "p")
    fleet.repository.publish(package)
    text = (package / "model.toml").read_text().replace('"negator"', '"other"')
    sign_as_it_is(fleet, "negator/1.0.0/model.toml", text.encode())
    refused(fleet, Altered)


def test_a_disk_without_room_is_known_before_the_download(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.publish()
    monkeypatch.setattr(layout, "RESERVE_BYTES", 2**62)
    source = fleet.source()
    refused(fleet, StorageFailed, source)
    assert not [path for path, _ in source.reads if path.startswith("targets/")]


def test_a_team_signs_its_own_models_and_no_others(fleet: Fleet) -> None:
    fleet.repository.delegate("vision", ["vision-*"])
    fleet.publish("1.0.0", name="vision-cat", role="vision")
    assert fleet.install(name="vision-cat").active
    assert fleet.restarted().open("vision-cat").ref.name == "vision-cat"
    fleet.publish("1.0.0", name="pump", role="vision")
    with pytest.raises(NotFound):
        fleet.install(name="pump")


def test_a_device_without_a_root_installs_nothing(fleet: Fleet, tmp_path: Path) -> None:
    fleet.publish()
    registry = Registry(tmp_path / "fresh", clock=fleet.clock)
    assert not registry.provisioned
    with pytest.raises(Unsigned, match="no trust root"):
        registry.install(fleet.address, "negator")
    assert registry.list() == []


def test_the_root_cannot_be_replaced(fleet: Fleet, tmp_path: Path) -> None:
    stranger = make_fleet(tmp_path / "stranger")
    fleet.registry.provision(fleet.repository.root_bytes())
    with pytest.raises(Refused):
        fleet.registry.provision(stranger.repository.root_bytes())


@pytest.mark.parametrize("root", [b"", b"{}", b"\x00" * 100, b"[" * 100_000, b'{"signed": 1}'])
def test_what_is_no_root_cannot_be_provisioned(tmp_path: Path, fleet: Fleet, root: bytes) -> None:
    registry = Registry(tmp_path / "fresh", clock=fleet.clock)
    with pytest.raises(BadRepository):
        registry.provision(root)
    assert not registry.provisioned


def reseal(package: Path, model: bytes) -> None:
    """Replace the model file and put its digest and size into the manifest."""
    from agent.trust.digest import sha256_hex

    old = (package / "model.onnx").read_bytes()
    (package / "model.onnx").write_bytes(model)
    text = (package / "model.toml").read_text().replace(sha256_hex(old), sha256_hex(model))
    (package / "model.toml").write_text(
        text.replace(f"size = {len(old)}", f"size = {len(model)}", 1)
    )


def sign_as_it_is(fleet: Fleet, path: str, data: bytes) -> None:
    """Sign bytes that the operator's own checks would refuse."""
    from tuf.api.metadata import TargetFile

    from agent.trust.digest import sha256_hex

    store = fleet.repository.metadata
    targets = store.targets()
    targets.signed.targets[path] = TargetFile.from_data(path, data, ["sha256"])
    directory, _, name = path.rpartition("/")
    stored = fleet.directory / "repository" / "targets" / directory
    stored.mkdir(parents=True, exist_ok=True)
    (stored / f"{sha256_hex(data)}.{name}").write_bytes(data)
    store.commit({"targets": targets})
