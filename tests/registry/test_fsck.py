"""What a card leaves after a power cut: mended, or named with what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import Altered, NotReady
from agent.registry.fsck import Finding
from agent.registry.layout import locked
from tests.registry.test_registry import DAMAGE, V1, V2, blob, spoil, state_files
from tests.support.fleet import Fleet

Damage = Callable[[bytes], bytes]


@pytest.fixture
def two(fleet: Fleet) -> Fleet:
    """A device that was updated once."""
    fleet.publish("1.0.0")
    fleet.install()
    fleet.publish("1.1.0")
    fleet.install()
    return fleet


def look(fleet: Fleet, *, every_byte: bool = True) -> list[Finding]:
    return list(fleet.restarted().check(repair=False, every_byte=every_byte))


def repair(fleet: Fleet, *, every_byte: bool = True) -> list[Finding]:
    return list(fleet.restarted().check(repair=True, every_byte=every_byte))


def test_a_whole_registry_has_no_findings_and_is_not_touched(two: Fleet) -> None:
    before = {name: (two.models / name).stat().st_mtime_ns for name in state_files(two)}
    assert repair(two) == []
    assert {name: (two.models / name).stat().st_mtime_ns for name in state_files(two)} == before


def test_a_registry_that_was_never_used_leaves_nothing_on_the_disk(
    fleet: Fleet, tmp_path: Path
) -> None:
    from agent.registry import Registry

    assert Registry(tmp_path / "fresh", clock=fleet.clock).check(repair=True) == []
    assert not (tmp_path / "fresh").exists()


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_any_one_damaged_file_is_found_and_mended_or_refused(two: Fleet, damage: Damage) -> None:
    """Every file in turn: afterwards the device answers, and what was not mended is named."""
    for name in state_files(two):
        if name.startswith("metadata/"):
            continue  # the TUF client's own; a refresh renews it
        path = two.models / name
        whole = path.read_bytes()
        path.write_bytes(damage(whole))
        found = look(two)
        assert found, name
        assert path.read_bytes() == damage(whole), "looking changes nothing"
        assert all(finding.mended or finding.hint for finding in found)
        repair(two)
        left = look(two)
        assert all(finding.code == "trust.altered" for finding in left)
        assert two.restarted().open("negator").ref in {V1, V2}
        for finding in left:
            two.install(finding.where.split()[1])  # as the hint says
        two.install()
        assert look(two) == [], name


def test_a_lost_copy_of_the_state_is_written_again(two: Fleet) -> None:
    for name in ("state.json", "state.copy.json", "root.json"):
        whole = (two.models / name).read_bytes()
        (two.models / name).unlink()
        (finding,) = repair(two, every_byte=False)
        assert finding.where == name
        assert (two.models / name).read_bytes() == whole


def test_a_copy_that_is_one_commit_behind_is_brought_up(two: Fleet) -> None:
    """A cut between the two renames of a commit."""
    old = (two.models / "state.copy.json").read_bytes()
    two.registry.rollback("negator")
    (two.models / "state.copy.json").write_bytes(old)
    (finding,) = repair(two)
    assert finding.where == "state.copy.json"
    (two.models / "state.json").unlink()
    assert two.restarted().active("negator") == V1


def test_when_both_copies_are_lost_the_blobs_stay_for_the_next_installation(two: Fleet) -> None:
    for name in ("state.json", "state.copy.json"):
        (two.models / name).write_bytes(b"")
    blobs = set((two.models / "blobs").glob("*/*"))
    found = repair(two)
    assert {finding.where for finding in found} == {"state.json", "state.copy.json"}
    assert all("again" in finding.hint for finding in found)
    assert set((two.models / "blobs").glob("*/*")) == blobs
    source = two.source()
    two.restarted().install(source, "negator")
    assert [path for path, _ in source.reads if path.startswith("targets/")] == []


def test_blobs_that_nobody_counts_are_removed(two: Fleet) -> None:
    orphan = two.models / "blobs" / "ab" / ("ab" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"left by a kill between writing and committing")
    (two.models / "state.json.new").write_bytes(b"half a sta")
    found = look(two, every_byte=False)
    assert {finding.mended for finding in found} == {"removed"}
    assert orphan.exists()
    repair(two, every_byte=False)
    assert not orphan.exists()
    assert not (two.models / "state.json.new").exists()
    assert look(two) == []


def test_a_blob_that_is_counted_and_gone_is_refused(two: Fleet) -> None:
    blob(two, V1, "model.onnx").unlink()
    (finding,) = repair(two, every_byte=False)
    assert finding.code == "trust.altered"
    assert "models install negator --version 1.0.0" in finding.hint
    with pytest.raises(Altered):
        two.restarted().open("negator", "1.0.0")
    assert two.restarted().open("negator").ref == V2


def test_a_damaged_active_version_gives_way_for_good(two: Fleet) -> None:
    blob(two, V2, "model.onnx").write_bytes(b"")
    assert any("1.0.0 does" in finding.mended for finding in repair(two, every_byte=False))
    assert two.restarted().active("negator") == V1
    two.install()
    assert two.restarted().active("negator") == V2
    assert look(two) == []


def test_one_flipped_bit_is_found_only_when_every_byte_is_read(two: Fleet) -> None:
    spoil(two, V2, "model.onnx")
    assert look(two, every_byte=False) == []
    assert any(finding.code == "trust.altered" for finding in look(two))


def test_a_revoked_version_is_named_and_not_replaced_by_an_older_one(two: Fleet) -> None:
    from agent.types import ModelRef

    two.repository.withdraw(ModelRef("negator", "1.1.0"))
    two.repository.withdraw(ModelRef("negator", "1.0.0"))
    two.repository.rotate_key("targets")
    two.registry.refresh(two.address)
    found = repair(two)
    assert {finding.code for finding in found} == {"trust.revoked"}
    assert two.restarted().active("negator") == V2


def test_a_signed_document_comes_back_from_its_second_copy(two: Fleet) -> None:
    record = two.registry._read().find("negator")
    path = two.registry._blobs.path(record.evidence[-1].sha256)
    whole = path.read_bytes()
    path.write_bytes(bytes(len(whole)))
    assert {finding.mended for finding in repair(two, every_byte=False)} == {
        "restored from its copy"
    }
    assert path.read_bytes() == whole


def test_it_does_not_wait_for_an_installation_unless_told_to(two: Fleet) -> None:
    with locked(two.models / "lock"), pytest.raises(NotReady):
        two.restarted().check(repair=True, wait=False)
