"""What verification at load costs: a model of 100 MB with its signatures and digest checked, and without.

Both ways end in a session that can be run. Without: the file is read and given to the engine. With:
the registry reads it, verifies the signed documents and the digest of the bytes, and gives these
bytes to the engine. The two alternate, so that both meet the same machine.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from agent.engines.base import EngineOptions, Session
from agent.engines.catalog import load_session
from agent.registry import Registry
from agent.registry.trial import load_checked
from bench.report import Row, Table
from tests.support.fleet import make_fleet
from tests.support.onnx_model import onnx_model, weights
from tests.support.packages import write_package

ALLOWED = 1.10  # times a load without verification


def run(quick: bool) -> Table:
    """A model of 100 MB, 15 loads each way; 10 MB and 5 loads when `quick`."""
    side, loads = (1_581, 5) if quick else (5_000, 15)
    with tempfile.TemporaryDirectory(prefix="bench-verification-") as directory:
        registry, model = prepare(Path(directory), side)
        plain, verified = measure(registry, model, loads)
    megabytes = side * side * 4 / 1e6
    ratio = verified / plain
    return Table(
        f"Loading a model of {megabytes:.0f} MB",
        [
            Row("load without verification", plain * 1e3, "ms"),
            Row(
                "load with verification", verified * 1e3, "ms", "without", plain * 1e3, ratio,
                f"at most {ALLOWED:.2f}", ratio <= ALLOWED,
            ),
        ],
        [f"The fastest of {loads} loads each way, in turn; the file is in the page cache."],
    )  # fmt: skip


def prepare(directory: Path, side: int) -> tuple[Registry, Path]:
    """A device with a model of side x side float32 weights, and the same file beside it."""
    fleet = make_fleet(directory)
    values = np.random.default_rng(1).standard_normal((side, side), np.float32)
    part = weights("w", (side, side), values.tobytes())
    data = onnx_model("MatMul", shape=(-1, side), inputs=("x", "w"), initializers=part)
    package = write_package(directory / "packages" / "negator" / "1.0.0", data, golden={})
    fleet.publish("1.0.0")
    fleet.install()
    return fleet.registry, package / "model.onnx"


def measure(registry: Registry, model: Path, loads: int) -> tuple[float, float]:
    """Seconds for a load without and with verification, the fastest of each."""

    def plain() -> Session:
        return load_session("onnx", model.read_bytes(), EngineOptions())

    def verified() -> Session:
        opened = registry.open("negator")
        return load_checked(opened.manifest, opened.files)

    timed(plain), timed(verified)
    pairs = [(timed(plain), timed(verified)) for _ in range(loads)]
    one, two = zip(*pairs, strict=True)
    return min(one), min(two)


def timed(load: Callable[[], Session]) -> float:
    """Seconds that a load took; the session is closed after."""
    start = time.perf_counter()
    session = load()
    elapsed = time.perf_counter() - start
    session.close()
    return elapsed
