"""Every model that the project ships: whole, small, and computing what its golden cases say."""

import hashlib
from pathlib import Path

import pytest

from agent.registry.trial import try_model
from agent.trust.manifest import parse_manifest

MODELS = Path(__file__).parents[2] / "models"
PACKAGES = sorted(path.parent for path in MODELS.glob("*/model.toml"))
LARGEST = 5 * 2**20  # bytes of a package


@pytest.fixture(params=PACKAGES, ids=lambda path: path.name)
def package(request) -> Path:
    path: Path = request.param
    return path


def files(package: Path) -> dict[str, bytes]:
    manifest = parse_manifest((package / "model.toml").read_bytes())
    names = ["model.toml", *(entry.path for entry in manifest.files)]
    return {name: (package / name).read_bytes() for name in names}


def test_its_files_are_those_that_the_manifest_names(package: Path) -> None:
    for entry in parse_manifest((package / "model.toml").read_bytes()).files:
        data = (package / entry.path).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry.size, entry.sha256)


def test_it_is_small_enough_for_a_repository(package: Path) -> None:
    assert sum(map(len, files(package).values())) <= LARGEST


def test_it_computes_here_what_its_golden_cases_say(package: Path) -> None:
    found = files(package)
    try_model(parse_manifest(found["model.toml"]), found)


def test_it_says_how_good_it_is_and_where_not_to_use_it(package: Path) -> None:
    card = parse_manifest((package / "model.toml").read_bytes()).evaluation
    assert card.metrics
    assert card.data
    assert card.limits


def test_it_holds_its_recipe(package: Path) -> None:
    assert (package / "recipe" / "build.py").exists()
