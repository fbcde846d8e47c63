"""A model's first run cannot hurt the daemon."""

from pathlib import Path

import numpy as np
import pytest

from agent.engines.worker.process import Job
from agent.errors import AgentError, BadModel, GoldenFailed
from agent.registry import Registry
from agent.registry.isolated import check_room, try_in_process, try_isolated
from agent.registry.state import MANIFEST
from agent.trust.manifest import parse_manifest
from tests.support.fleet import make_fleet
from tests.support.onnx_model import onnx_model, weights
from tests.support.packages import small_package, write_package
from tests.support.programs import HERE


def attempt(package: Path, **options: float) -> None:
    files = {path.name: path.read_bytes() for path in package.iterdir()}
    try_isolated(parse_manifest(files[MANIFEST]), files, **options)


def test_a_good_model_passes(tmp_path: Path) -> None:
    attempt(small_package(tmp_path / "p"))


def test_a_device_tries_models_so_unless_told_otherwise(tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path)
    fleet.repository.publish(small_package(tmp_path / "p"))
    registry = Registry(fleet.models, clock=fleet.clock)
    assert registry._trial is try_isolated
    assert registry.install(fleet.address, "negator").active


def test_what_is_wrong_arrives_as_it_was_said(tmp_path: Path) -> None:
    golden = (small_package(tmp_path / "other") / "golden.npz").read_bytes()
    package = write_package(
        tmp_path / "p", onnx_model("Abs", shape=(-1, 5)), golden={"golden.npz": golden}
    )
    with pytest.raises(GoldenFailed, match="differs by") as caught:
        attempt(package)
    assert caught.value.where == "golden case random, y"


def test_a_crash_names_the_signal() -> None:
    job = Job("negator 1.0.0", f"{HERE}:Echo", options="segfault")
    with pytest.raises(BadModel, match=r"SIGSEGV: it crashes the runtime") as caught:
        try_in_process(job, {})
    assert caught.value.where == "negator 1.0.0"


def test_a_hang_is_ended() -> None:
    job = Job("negator 1.0.0", f"{HERE}:Echo", options="hang", start_s=0.5)
    with pytest.raises(BadModel, match=r"longer than 0\.5 s"):
        try_in_process(job, {})


def test_a_model_that_eats_memory_is_refused(tmp_path: Path) -> None:
    """A few bytes of file that ask for gigabytes: an outer product of a vector with itself."""
    side = 40_000
    ones = weights("w", (1, side), np.ones(side, np.float32).tobytes())
    model = onnx_model("MatMul", shape=(-1, 1), inputs=("x", "w"), initializers=ones)
    package = write_package(tmp_path / "p", model, golden=golden_of(side))
    with pytest.raises(AgentError) as caught:
        attempt(package)
    assert caught.value.code in {"model.invalid", "trust.golden"}


def golden_of(side: int) -> dict[str, bytes]:
    """A case whose output has `side` squared elements, of which the archive says but one row."""
    import io

    buffer = io.BytesIO()
    arrays = {
        "random/in/x": np.ones((side, 1), np.float32),
        "random/out/y": np.ones((1, side), np.float32),
    }
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return {"golden.npz": buffer.getvalue()}


def test_a_model_that_needs_more_memory_than_there_is_is_not_even_tried(tmp_path: Path) -> None:
    package = small_package(tmp_path / "p")
    manifest = parse_manifest((package / MANIFEST).read_bytes())
    check_room(manifest, manifest.resources.memory_mib)
    with pytest.raises(BadModel, match=r"it needs 64 MiB of memory, this device has 63 MiB"):
        check_room(manifest, 63)
    text = (package / MANIFEST).read_text()
    (package / MANIFEST).write_text(f"{text}\n[resources]\nmemory_mib = 1048576\n")
    with pytest.raises(BadModel, match="1048576 MiB of memory, this device has"):
        attempt(package)
