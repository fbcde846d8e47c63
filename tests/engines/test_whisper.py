"""Whisper through faster-whisper, on a tiny one with random weights."""

import json
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
from faster_whisper.feature_extractor import FeatureExtractor

from agent.engines import whisper
from agent.engines.base import EngineOptions
from agent.engines.catalog import load_session
from agent.engines.generation import Cancellation
from agent.engines.isolated_speech import PROGRAM, IsolatedSpeechSession
from agent.engines.speech import Heard, Passage, Segment, SpeechSession, TranscriptionRequest
from agent.engines.worker.limits import Limits
from agent.engines.worker.process import Job
from agent.engines.worker.supervisor import Worker
from agent.errors import BadModel, BadPayload, BadTensor, NotReady, WorkerDied
from tests.support import tiny_whisper
from tests.support.tiny_whisper import RATE, sound, wav

ASK = TranscriptionRequest()


def loaded(files: Mapping[str, bytes], **parameters: Any) -> SpeechSession:
    options = EngineOptions(1, files, parameters)
    session = load_session("whisper", files["model.bin"], options)
    assert isinstance(session, SpeechSession)
    return session


@pytest.fixture(scope="module")
def session() -> Iterator[SpeechSession]:
    made = loaded(tiny_whisper.files())
    yield made
    made.close()


@pytest.fixture(scope="module")
def polyglot() -> Iterator[SpeechSession]:
    made = loaded(tiny_whisper.files(multilingual=True))
    yield made
    made.close()


def recording(seconds: float = 2.0, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(wav(sound(seconds, seed)), np.uint8)


def segments(passages: list[Passage]) -> list[Segment]:
    return [passage for passage in passages if isinstance(passage, Segment)]


# Tensors


def test_a_run_gives_the_tokens_of_the_bare_runtime(session: SpeechSession) -> None:
    files = dict(tiny_whisper.files())
    settings = json.loads(files["preprocessor_config.json"])
    bare = ctranslate2.models.Whisper("bare", files=files)
    heard = sound(2.5)
    spectrum = FeatureExtractor(**settings)(heard)[:, :3000]
    spectrum = np.pad(spectrum, ((0, 0), (0, 3000 - spectrum.shape[1])))[None].astype(np.float32)
    prompt = ["<|startoftranscript|>", "<|notimestamps|>"]
    view = ctranslate2.StorageView.from_array(spectrum)
    found = bare.generate(view, [prompt], beam_size=1)[0].sequences_ids[0]
    tokens = session.run({"audio": heard})["tokens"]
    assert tokens.dtype == np.int32
    # A trained one writes no times after this prompt; they would be no text.
    assert tokens.tolist() == [token for token in found if token < 256]
    assert len(tokens) > 0  # how many depends on the rounding of the processor: it is untrained


def test_a_window_is_heard_whole_and_one_sample_more_is_refused(session: SpeechSession) -> None:
    session.run({"audio": np.zeros(whisper.WINDOW, np.float32)})
    session.run({"audio": np.zeros(1, np.float32)})
    for audio in (np.zeros(whisper.WINDOW + 1, np.float32), np.zeros(0, np.float32)):
        with pytest.raises(BadPayload, match="480000"):
            session.run({"audio": audio})
    with pytest.raises(BadPayload, match="finite"):
        session.run({"audio": np.full(100, np.nan, np.float32)})
    with pytest.raises(BadTensor):
        session.run({"audio": np.zeros(100, np.int16)})


# Recordings


def test_a_recording_becomes_timed_segments_and_an_end(session: SpeechSession) -> None:
    passages = list(session.transcribe(recording(40.0), ASK))
    assert passages[-1] == Heard("en", 1.0, 40.0)
    found = segments(passages)
    assert found
    assert all(0 <= s.start_s < s.end_s <= 60 for s in found)
    assert [s.start_s for s in found] == sorted(s.start_s for s in found)
    assert all(s.text and s.tokens and -5 < s.avg_logprob <= 0 for s in found)


def test_a_long_recording_is_heard_to_its_end_in_stretches(session: SpeechSession) -> None:
    seconds = 2 * whisper.STRETCH / RATE + 45
    passages = list(session.transcribe(recording(seconds), ASK))
    starts = [s.start_s for s in segments(passages)]
    assert passages[-1] == Heard("en", 1.0, seconds)
    assert starts == sorted(starts)
    # Every minute of it, those where stretches meet among them, has something of the transcript.
    assert {int(start // 60) for start in starts} == set(range(int(seconds // 60) + 1))


def test_a_stretch_ends_where_the_next_begins_without_a_gap() -> None:
    ones = np.ones(whisper.STRETCH + 40 * RATE, np.float32)
    stretches = whisper._Stretches(iter([ones]))
    told = []
    for stretch in stretches:
        length = len(stretch) / RATE
        made = [segment(at, at + 8.0) for at in np.arange(0, length - 8, 8.0)]
        told += list(stretches.within(iter(made)))
    assert [s.start_s for s in told] == pytest.approx(list(np.arange(0, told[-1].end_s, 8.0)))
    assert stretches.heard == len(ones)


def segment(start_s: float, end_s: float) -> Segment:
    return Segment(start_s, end_s, "a", (1,), 0.0, -0.1, 1.0, 0.0)


def test_words_are_timed_when_they_are_asked_for(session: SpeechSession) -> None:
    asked = TranscriptionRequest(words=True)
    found = segments(list(session.transcribe(recording(20.0), asked)))
    words = [word for s in found for word in s.words]
    assert "".join(word.text for word in words) == "".join(s.text for s in found)
    assert all(0 <= w.start_s <= w.end_s and 0 <= w.probability <= 1 for w in words)
    assert not segments(list(session.transcribe(recording(20.0), ASK)))[0].words


def test_a_model_without_times_gives_windows() -> None:
    untimed = loaded(tiny_whisper.files(), timestamps=False)
    found = segments(list(untimed.transcribe(recording(65.0), ASK)))
    assert [(s.start_s, s.end_s) for s in found] == [(0, 30), (30, 60), (60, 65)]
    untimed.close()


def test_a_caller_who_goes_away_stops_it(session: SpeechSession) -> None:
    gone = Cancellation()
    passages = session.transcribe(recording(60.0), ASK, gone)
    assert isinstance(next(passages), Segment)
    gone.cancel()
    assert list(passages) == []


# Languages


def test_a_language_is_detected_said_or_refused(polyglot: SpeechSession) -> None:
    detected = list(polyglot.transcribe(recording(), ASK))[-1]
    assert isinstance(detected, Heard)
    assert detected.language in tiny_whisper.LANGUAGES
    assert 0 < detected.language_probability < 1
    said = list(polyglot.transcribe(recording(), TranscriptionRequest(language="de")))[-1]
    assert isinstance(said, Heard)
    assert (said.language, said.language_probability) == ("de", 1.0)
    with pytest.raises(BadPayload, match="It knows: de, en, fr"):
        next(polyglot.transcribe(recording(), TranscriptionRequest(language="it")))


def test_the_manifest_says_the_language_when_the_request_does_not() -> None:
    german = loaded(tiny_whisper.files(multilingual=True), language="de")
    assert getattr(list(german.transcribe(recording(), ASK))[-1], "language", "") == "de"
    german.close()


def test_translation_is_another_task_and_not_every_model_has_it(
    session: SpeechSession, polyglot: SpeechSession
) -> None:
    asked = TranscriptionRequest(translate=True, language="fr")
    assert isinstance(list(polyglot.transcribe(recording(), asked))[-1], Heard)
    with pytest.raises(BadPayload, match="does not translate"):
        next(session.transcribe(recording(), TranscriptionRequest(translate=True)))


# What is loaded


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "vocabulary.json"])
def test_a_package_without_a_file_is_refused_and_nothing_is_fetched(name: str) -> None:
    with pytest.raises(BadModel, match=name):
        loaded({k: v for k, v in tiny_whisper.files().items() if k != name})


def test_files_beside_the_working_directory_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"feature_size": 128}))
    monkeypatch.chdir(tmp_path)
    files = {k: v for k, v in tiny_whisper.files().items() if k != "preprocessor_config.json"}
    made = loaded(files)
    assert len(made.run({"audio": sound()})["tokens"])
    made.close()


@pytest.mark.parametrize("data", [b"nonsense", b"\0" * 1000, b"\x06\0\0\0" + b"\xff" * 200])
def test_a_model_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(BadModel, match="CTranslate2 cannot load"):
        loaded({**tiny_whisper.files(), "model.bin": data})


def test_a_cut_model_is_refused() -> None:
    whole = tiny_whisper.files()["model.bin"]
    with pytest.raises(BadModel, match="CTranslate2 cannot load"):
        loaded({**tiny_whisper.files(), "model.bin": whole[: len(whole) // 2]})


@pytest.mark.parametrize("beam", [0, 17, "many", 2.5])
def test_a_beam_that_is_none_is_refused(beam: Any) -> None:
    with pytest.raises(BadModel, match=r"parameters\.beam"):
        loaded(tiny_whisper.files(), beam=beam)


def test_a_tokenizer_without_control_tokens_is_refused() -> None:
    files = dict(tiny_whisper.files())
    files["tokenizer.json"] = files["tokenizer.json"].replace(
        b"<|startofprev|>", b"<|startofprex|>"
    )
    with pytest.raises(BadModel, match=r"lacks <\|startofprev\|>"):
        loaded(files)


def test_a_closed_session_says_so() -> None:
    made = loaded(tiny_whisper.files())
    made.close()
    with pytest.raises(NotReady):
        made.run({"audio": sound()})
    with pytest.raises(NotReady):
        next(made.transcribe(recording(), ASK))


# In a worker


@pytest.fixture(scope="module")
def isolated() -> Iterator[IsolatedSpeechSession]:
    options = {"engine": "whisper", "model": "model.bin", "threads": 1}
    job = Job("tiny 1.0.0", PROGRAM, options, Limits(memory_mib=2048))
    made = IsolatedSpeechSession(Worker(job, tiny_whisper.files))
    yield made
    made.close()


def test_a_worker_hears_what_the_same_session_hears_here(
    session: SpeechSession, isolated: IsolatedSpeechSession
) -> None:
    asked = TranscriptionRequest(words=True)
    assert list(isolated.transcribe(recording(), asked)) == list(
        session.transcribe(recording(), asked)
    )
    heard = sound(3.0)
    np.testing.assert_array_equal(
        isolated.run({"audio": heard})["tokens"], session.run({"audio": heard})["tokens"]
    )


def test_a_refusal_of_the_worker_arrives_as_it_is(isolated: IsolatedSpeechSession) -> None:
    with pytest.raises(BadPayload, match="known form"):
        list(isolated.transcribe(np.frombuffer(b"nothing at all", np.uint8), ASK))
    assert isinstance(list(isolated.transcribe(recording(), ASK))[-1], Heard)


def test_callers_who_go_away_leave_the_worker_to_the_next(isolated: IsolatedSpeechSession) -> None:
    for _ in range(6):  # more than there are lanes
        gone = Cancellation()
        passages = isolated.transcribe(recording(120.0), ASK, gone)
        next(passages)
        gone.cancel()
        passages.close()
    assert isinstance(list(isolated.transcribe(recording(), ASK))[-1], Heard)


def test_a_worker_that_is_killed_while_it_hears_is_told_and_the_next_hears(
    isolated: IsolatedSpeechSession,
) -> None:
    passages = isolated.transcribe(recording(240.0), ASK)
    next(passages)
    process = isolated.worker._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="SIGKILL"):
        list(passages)
    assert isinstance(list(isolated.transcribe(recording(), ASK))[-1], Heard)
