"""The shipped kiosk classifier, asked through the task as the daemon asks it."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from agent.engines import catalog
from agent.engines.base import EngineOptions, Session
from agent.tasks.classification.classifier import MAX_TEXTS, Classifier
from agent.tasks.classification.labels import Labelled
from agent.tasks.embedding.encoder import TOKENIZER
from agent.trust.manifest import Manifest, parse_manifest

PACKAGE = Path(__file__).parents[2] / "models" / "intent"
STRANGERS = ("strangers.txt", "strangers_outside.txt")


@cache
def shipped() -> tuple[Session, Classifier, Manifest]:
    manifest = parse_manifest((PACKAGE / "model.toml").read_bytes())
    session = catalog.load_session(
        manifest.engine, (PACKAGE / manifest.model_file.path).read_bytes(), EngineOptions()
    )
    files = {TOKENIZER: (PACKAGE / TOKENIZER).read_bytes()}
    return session, Classifier(manifest, files), manifest


def ask(texts: list[str]) -> list[Labelled]:
    session, classifier, _ = shipped()
    parts = (texts[at : at + MAX_TEXTS] for at in range(0, len(texts), MAX_TEXTS))
    return [each for part in parts for each in classifier.classify(session.run, part)]


def written(name: str) -> list[tuple[str, str]]:
    text = (PACKAGE / "recipe" / name).read_text("utf-8")
    pairs = [line.partition(": ") for line in text.splitlines() if not line.startswith("#")]
    return [(label, question) for label, _, question in pairs]


def value(metric: str, part: str) -> float:
    rows = shipped()[2].evaluation.metrics
    return next(row.value for row in rows if (row.name, row.slice) == (metric, part))


def test_written_questions_are_understood_as_often_as_the_card_says() -> None:
    asked = written("written.txt")
    assert len(asked) >= 140
    found = ask([question for _, question in asked])
    right = sum(each.label == label for each, (label, _) in zip(found, asked, strict=True))
    assert abs(right / len(asked) - value("accuracy", "written")) < 0.03


def test_questions_out_of_scope_are_caught_as_often_as_the_card_says() -> None:
    asked = written("outside.txt")
    assert len(asked) >= 100
    found = ask([question for _, question in asked])
    caught = sum(not each.in_scope for each in found)
    assert abs(caught / len(asked) - value("accuracy", "outside")) < 0.03


def test_no_question_that_it_is_measured_on_is_one_that_it_learnt() -> None:
    learnt = {text for _, text in written("trained.txt")}
    for name in ("written.txt", "outside.txt", *STRANGERS, "kept_aside.txt"):
        assert learnt.isdisjoint(text for _, text in written(name))


def test_strangers_questions_are_understood_as_often_as_the_card_says() -> None:
    asked, others = map(written, STRANGERS)
    assert (len(asked), len(others)) == (280, 160)
    found = ask([question for _, question in asked])
    right = sum(each.label == label for each, (label, _) in zip(found, asked, strict=True))
    assert abs(right / len(asked) - value("accuracy", "strangers")) < 0.03
    caught = sum(not each.in_scope for each in ask([question for _, question in others]))
    assert abs(caught / len(others) - value("accuracy", "outside, strangers")) < 0.03


def test_it_reaches_what_is_asked_of_it() -> None:
    """95 of 100 phrasings that it was not taught, and 90 of 100 questions that are none of its own."""
    counts = {"phrasings kept aside": 840, "written": 140, "strangers": 280}
    right = sum(value("accuracy", part) * count for part, count in counts.items())
    assert right / sum(counts.values()) >= 0.95
    assert min(value("accuracy", part) for part in ("outside", "outside, strangers")) >= 0.90


def test_a_text_does_not_change_what_its_neighbours_are() -> None:
    alone = [ask([text])[0].label for text in ("where is the toilet", "wifi password please")]
    long = "how do I get to the roof garden from the other side of the building " * 5
    together = ask(["where is the toilet", long, "wifi password please"])
    assert [together[0].label, together[2].label] == alone == ["toilets", "wifi"]


@pytest.mark.long
@pytest.mark.workstation
@pytest.mark.timeout(1200)
def test_the_recipe_makes_the_package_again(tmp_path: Path) -> None:
    """On the kind of processor that made it, to the byte; on others, as good within three points."""
    folder = os.environ.get("EDGE_AGENT_MINILM", "")
    if not (Path(folder) / "model.safetensors").is_file():
        pytest.skip("EDGE_AGENT_MINILM names no folder of all-MiniLM-L6-v2")
    build = PACKAGE / "recipe" / "build.py"
    arguments = ["--minilm", folder, "--out", str(tmp_path)]
    subprocess.run([sys.executable, build, *arguments], check=True, timeout=1100)
    before, after = (
        parse_manifest((place / "model.toml").read_bytes()) for place in (PACKAGE, tmp_path)
    )
    if before.model_file.sha256 == after.model_file.sha256:
        for file in before.files:
            assert (tmp_path / file.path).read_bytes() == (PACKAGE / file.path).read_bytes()
    for old, new in zip(before.evaluation.metrics, after.evaluation.metrics, strict=True):
        assert (old.name, old.slice) == (new.name, new.slice)
        if old.slice in {"all", "written", "outside"}:
            assert abs(new.value - old.value) <= 0.03
