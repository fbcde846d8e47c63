"""The models that the project ships, signed and installed, answer as their cards say."""

import json
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from tests.support.device import ROOT, Device, device, install_models
from tests.support.tiny_whisper import wav

MODELS = ROOT / "models"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    place = tmp_path_factory.mktemp("s")
    models = install_models(place / "m", [MODELS / name for name in ("intent", "spoken-digits")])
    with device(place / "d", "", models) as found:
        yield found.start()


@pytest.mark.parametrize(
    ("question", "label"),
    [
        ("Where can I leave my suitcase?", "luggage"),
        ("is ther a toilet on this flor", "toilets"),
        ("We came by bike, is there anywhere safe to lock them up?", "parking"),
        ("my grandson can't manage the stairs with his crutches", "accessibility"),
        ("Who won the match?", None),
        ("write me a poem about toilets", None),
    ],
)
def test_the_kiosk_model_sorts_questions(daemon: Device, question: str, label: str | None) -> None:
    found = json.loads(daemon.run("classify", "intent", question, "--json").stdout)
    assert [each["label"] for each in found["results"]] == [label]


def test_a_spoken_number_is_written_down(daemon: Device, spoken: bytes) -> None:
    (daemon.directory / "number.wav").write_bytes(spoken)
    found = daemon.run("transcribe", "number.wav", "--model", "spoken-digits", "--format", "json")
    assert json.loads(found.stdout)["text"].split() == ["three", "one", "nine", "zero"]


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> Iterator[bytes]:
    """Four digits by a voice that the model was not trained on."""
    monkeypatch.syspath_prepend(str(MODELS / "spoken-digits" / "recipe"))
    from speech import in_a_row, scaled
    from voices import say, voice

    rng = np.random.default_rng(99)
    speaker = voice("middle", rng)
    audio, _ = in_a_row(
        [say(digit, speaker, rng) for digit in ["three", "one", "nine", "zero"]], rng
    )
    yield wav(scaled(audio, rng))
    for name in ("voices", "noises", "speech"):
        sys.modules.pop(name, None)
