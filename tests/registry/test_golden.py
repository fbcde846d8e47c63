"""Comparing what a model computes with what it must."""

import io

import numpy as np
import pytest

from agent.engines.base import EngineOptions, Session
from agent.engines.catalog import load_session
from agent.errors import GoldenFailed
from agent.registry import golden
from agent.registry.golden import check_golden, largest_difference
from agent.trust.manifest import parse_manifest
from tests.support.onnx_model import onnx_model
from tests.support.packages import golden_bytes, manifest_text


@pytest.fixture
def session() -> Session:
    return load_session("onnx", onnx_model("Neg"), EngineOptions())


def check(session: Session, archive: bytes) -> None:
    files = {"model.onnx": b"x", "golden.npz": archive}
    text = manifest_text(session, files, engine="onnx", name="m", version="1.0.0")
    check_golden(parse_manifest(text.encode()), files, session)


def archive(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{k.replace("__", "/"): v for k, v in arrays.items()})  # type: ignore[arg-type]
    return buffer.getvalue()


X = np.ones((1, 4), np.float32)


def test_what_the_model_computes_passes(session: Session) -> None:
    check(session, golden_bytes(session))


def test_the_tolerance_is_inclusive(session: Session) -> None:
    check(session, archive(random__in__x=X, random__out__y=-X + np.float32(0.0009)))
    with pytest.raises(GoldenFailed, match=r"differs by 0\.00195"):
        check(session, archive(random__in__x=X, random__out__y=-X + np.float32(2**-9)))


@pytest.mark.parametrize(
    "data",
    [
        archive(random__in__x=X),
        archive(random__out__y=-X),
        archive(random__in__x=X, random__out__z=-X),
        archive(random__in__x=X, random__out__y=-X[:, :3]),
        archive(random__in__x=X, random__out__y=(-X).astype(np.float64)),
        archive(random__in__x=X, random__out__y=X * np.nan),
        archive(random__in__x=X, random__out__y=np.array([{}], object)),
        b"PK" * 100,
        archive(random__in__x=X, random__out__y=-X)[:-30],
    ],
    ids=["no output", "no input", "unknown output", "shape", "dtype", "nan", "pickle", "junk", "cut"],
)  # fmt: skip
def test_what_cannot_be_compared_fails(session: Session, data: bytes) -> None:
    with pytest.raises(GoldenFailed):
        check(session, data)


def test_an_archive_that_unpacks_too_far_is_refused(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "MAX_ARCHIVE_BYTES", 100)
    with pytest.raises(GoldenFailed, match="unpacks to"):
        check(session, golden_bytes(session))


def test_differences_of_integers_do_not_wrap() -> None:
    assert largest_difference(np.array([-128], np.int8), np.array([127], np.int8)) == 255


def test_equal_infinities_and_nan_do_not_differ() -> None:
    values = np.array([np.inf, -np.inf, np.nan, 1.0])
    assert largest_difference(values, values.copy()) == 0
    assert largest_difference(np.array([np.inf]), np.array([1.0])) == np.inf
