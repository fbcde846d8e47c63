"""The shipped gauge reader, on pictures that its own renderer makes from seeds never used before."""

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from agent.engines import catalog
from agent.engines.base import EngineOptions, Session
from agent.trust.manifest import Manifest, parse_manifest

PACKAGE = Path(__file__).parents[2] / "models" / "gauge-reader"
RECIPE = str(PACKAGE / "recipe")
SEED = 7


@pytest.fixture(scope="module", autouse=True)
def recipe() -> Iterator[None]:
    """The recipe's modules by their own names, and gone afterwards: another recipe has a `dataset` too."""
    before = set(sys.modules)
    sys.path.insert(0, RECIPE)
    yield
    sys.path.remove(RECIPE)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(RECIPE):
            del sys.modules[name]


@cache
def shipped() -> tuple[Session, Manifest]:
    manifest = parse_manifest((PACKAGE / "model.toml").read_bytes())
    data = (PACKAGE / manifest.model_file.path).read_bytes()
    return catalog.load_session(manifest.engine, data, EngineOptions()), manifest


def errors(condition: str, count: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Absolute error of each reading, share of the scale, and the model's confidence."""
    from dataset import pictures
    from dials import KEPT_ASIDE

    seen = pictures(KEPT_ASIDE, condition, count, SEED)
    found = shipped()[0].run({"image": seen.images})
    return np.abs(found["value"][:, 0] - seen.values), found["confidence"]


CONDITIONS = ["clean", "light", "blur", "rotation", "glare", "everything"]


def test_dials_of_a_kind_never_seen_are_read_within_two_percent() -> None:
    assert np.mean([errors(condition)[0].mean() for condition in CONDITIONS]) <= 0.02


@pytest.mark.parametrize("condition", CONDITIONS[:-1])
def test_no_single_disturbance_costs_more_than_two_percent(condition: str) -> None:
    assert errors(condition)[0].mean() <= 0.02


def test_where_it_is_unsure_it_is_wrong_more_often() -> None:
    found, confidence = errors("everything", 400)
    unsure = confidence < np.quantile(confidence, 0.2)
    assert found[unsure].mean() > 2 * found[~unsure].mean()


def test_a_picture_without_a_dial_gets_little_confidence() -> None:
    noise = np.random.default_rng(SEED).integers(0, 256, (50, 96, 96), np.uint8)
    _, on_dials = errors("clean")
    assert np.median(shipped()[0].run({"image": noise})["confidence"]) < np.median(on_dials)


def test_the_card_names_every_condition() -> None:
    metrics = shipped()[1].evaluation.metrics
    assert {metric.slice for metric in metrics} == {"all", *CONDITIONS}
    assert all(metric.value <= 0.02 for metric in metrics)


def test_a_renderer_with_the_same_seed_gives_the_same_pictures() -> None:
    from dataset import pictures
    from dials import TRAINED

    first, second = (pictures(TRAINED, "everything", 4, SEED) for _ in range(2))
    assert np.array_equal(first.images, second.images)


def test_the_needle_stands_where_the_value_says() -> None:
    """Two pictures that differ in nothing but the value differ along two needles, and nowhere else."""
    from dials import KEPT_ASIDE, draw
    from scenes import render, view

    rng = np.random.default_rng(SEED)
    dials, seen = draw(KEPT_ASIDE, 1, rng), view(1, "clean", rng)
    low, high = (
        render(np.array([v], np.float32), dials, seen, np.random.default_rng(SEED))
        for v in (0.0, 1.0)
    )
    changed = np.abs(low.astype(int) - high.astype(int))[0] > 8
    assert changed[:, :48].any()  # where the needle left: the first mark is on the left
    assert changed[:, 48:].any()  # where it went
    assert changed.mean() < 0.2
