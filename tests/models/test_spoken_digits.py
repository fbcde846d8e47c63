"""The recipe of the spoken digits: its voices, its sets, and that a Whisper learns from them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

RECIPE = Path(__file__).parents[2] / "models" / "spoken-digits" / "recipe"


@pytest.fixture(autouse=True)
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(RECIPE))
    yield
    for name in ("voices", "noises", "speech", "tokens", "train"):
        sys.modules.pop(name, None)


def test_a_voice_says_each_digit_otherwise_and_the_same_from_the_same_seed() -> None:
    from voices import DIGITS, KINDS, say, voice

    for kind in KINDS:
        speaker = voice(kind, np.random.default_rng(4))
        first, again = (
            {d: say(d, speaker, np.random.default_rng(5)) for d in DIGITS} for _ in range(2)
        )
        for digit in DIGITS:
            assert np.isfinite(first[digit]).all()
            assert np.abs(first[digit]).max() == pytest.approx(1)
            assert 0.1 < len(first[digit]) / 16_000 < 1.0
            assert (first[digit] == again[digit]).all()


def test_noise_is_as_loud_as_it_is_called() -> None:
    from speech import machine, mixed

    rng = np.random.default_rng(6)
    speech = np.sin(np.arange(16_000))
    for decibels in (20.0, 10.0):
        noise = mixed(speech, machine(len(speech), rng), decibels) - speech
        assert 20 * np.log10(speech.std() / noise.std()) == pytest.approx(decibels, abs=0.01)


def test_where_words_are_is_known_in_whatever_noise() -> None:
    from speech import Bank

    bank = Bank.of(3, 1, 2)
    for _ in range(5):
        said = bank.utterance(5)
        assert len(said.places) == len(said.text.split())
        edges = [edge for place in said.places for edge in (place.start, place.stop)]
        assert edges == sorted(edges)
        assert 0 < edges[0] < edges[-1] < len(said.audio)


def test_no_noise_of_training_is_the_motor_that_is_measured_beside() -> None:
    from noises import HIGH_HUM, LENGTH, cut, noises
    from speech import MOTOR

    assert MOTOR[1] < HIGH_HUM[0]
    made = noises(np.random.default_rng(1), 3)
    assert all(noise.std() == pytest.approx(1) and len(noise) == LENGTH for noise in made)
    assert len(cut(made[0], 3 * LENGTH, np.random.default_rng(2))) == 3 * LENGTH


def test_the_set_kept_aside_has_every_voice_in_every_noise(tmp_path: Path) -> None:
    from speech import KEPT_VOICES, NOISES, kept_aside, write_set
    from voices import KINDS

    from tools.quantize.whisper.recordings import read

    found = read(write_set(tmp_path, kept_aside(2, each=1)))
    assert len(found.each) == len(KINDS) * KEPT_VOICES * len(NOISES)
    assert {s for r in found.each for s in r.slices} == {
        *NOISES,
        *(f"{kind} voice" for kind in KINDS),
    }
    assert all(1 <= len(recording.text.split()) <= 5 for recording in found.each)


@pytest.mark.workstation
def test_the_tokenizer_has_whispers_layout() -> None:
    pytest.importorskip("transformers")
    from tokens import CONTROL, TIMES, tokenizer

    made = tokenizer()
    ids = made.convert_tokens_to_ids(list(CONTROL))
    assert ids == list(range(ids[0], ids[0] + len(CONTROL)))
    assert made.convert_tokens_to_ids("<|0.00|>") == ids[-1] + 1
    assert made.convert_tokens_to_ids("<|30.00|>") == ids[-1] + TIMES == len(made) - 1
    for text in (" three one nine", " Größe, 泵 🔧"):
        assert made.decode(made(text, add_special_tokens=False).input_ids) == text


@pytest.mark.workstation
@pytest.mark.timeout(300)
def test_a_whisper_learns_from_it_and_the_same_from_the_same_seed() -> None:
    torch = pytest.importorskip("torch")
    from speech import Bank
    from tokens import tokenizer
    from train import train

    said: list[str] = []
    tokens = tokenizer()
    stages = ((100, 8, 1, 0), (1, 2, 1, 3000))
    models = [train(tokens, Bank.of(1, 2, 4), 1, stages, said.append) for _ in range(2)]
    # Untrained: the logarithms of 1,804 tokens and of 11 words, 7.5 + 2.4.
    assert float(said[0].rsplit(" ", 1)[1]) < 4.5
    for first, second in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(first, second)
