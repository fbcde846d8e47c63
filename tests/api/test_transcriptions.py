"""`/v1/audio`, asked by OpenAI's own client and by clients that are worse."""

import json
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import openai
import pytest
from urllib3.filepost import encode_multipart_formdata

from agent.api.openai.hearing import MAX_HEARING
from agent.api.openai.speech import MAX_REQUEST
from agent.engines.base import EngineOptions
from agent.engines.catalog import load_session
from agent.engines.generation import not_cancelled
from agent.engines.speech import (
    MAX_PROMPT,
    Heard,
    Passage,
    Segment,
    SpeechSession,
    TranscriptionRequest,
    Word,
)
from agent.errors import WorkerDied
from agent.types import Array, TensorSpec
from tests.api.test_openai import asked, refused
from tests.fakes.engine import FakeManifest, FakeModel, FakeModels, echo
from tests.support import tiny_whisper
from tests.support.served import ECHO, Serve
from tests.support.wire import request, until

WAV = tiny_whisper.wav(tiny_whisper.sound(2.0))
FILE = ("a.wav", WAV)


class Scripted(SpeechSession):
    """Says what it is told to, and remembers what it was asked."""

    def __init__(self, count: int = 2, failure: Exception | None = None) -> None:
        super().__init__(
            [TensorSpec("audio", "FP32", (-1,))], [TensorSpec("tokens", "INT32", (-1,))]
        )
        self.asked: list[TranscriptionRequest] = []
        self.heard: list[bytes] = []
        self.cancelled = False
        self.told = 0
        self._count, self._failure = count, failure
        self.gate = threading.Event()
        self.gate.set()

    def transcribe(
        self,
        recording: Array,
        request: TranscriptionRequest,
        cancelled: Callable[[], bool] = not_cancelled,
    ) -> Generator[Passage, None, None]:
        self.asked.append(request)
        self.heard.append(recording.tobytes())
        try:
            for number in range(self._count):
                self.gate.wait(10)
                if cancelled():
                    self.cancelled = True
                    return
                self.told += 1
                word = Word(f" word{number}", number, number + 0.5, 0.9)
                words = (word,) if request.words else ()
                times = (number, number + 0.5)
                yield Segment(*times, word.text, (number,), 0.0, -0.2, 1.1, 0.01, words)
        except GeneratorExit:
            self.cancelled = True
            raise
        if self._failure is not None:
            raise self._failure
        yield Heard(request.language or "en", 1.0, 2.0)

    def _run(self, arrays: Any) -> Any:
        raise AssertionError("no test runs it as tensors")

    def _close(self) -> None:
        self.gate.set()


def speech(session: SpeechSession) -> FakeModel:
    manifest = FakeManifest(session.inputs, session.outputs, "speech-recognition", "whisper")
    return FakeModel(session, "tiny", manifest=manifest)


def transcribe(client: openai.OpenAI, **changes: Any) -> Any:
    return client.audio.transcriptions.create(**{"model": "tiny", "file": FILE, **changes})


@pytest.fixture(scope="module")
def real() -> Iterator[SpeechSession]:
    files = tiny_whisper.files()
    session = load_session("whisper", files["model.bin"], EngineOptions(1, files))
    assert isinstance(session, SpeechSession)
    yield session
    session.close()


async def test_a_recording_becomes_the_engines_text(serve: Serve, real: SpeechSession) -> None:
    passages = list(real.transcribe(np.frombuffer(WAV, np.uint8), TranscriptionRequest()))
    text = "".join(p.text for p in passages if isinstance(p, Segment)).strip()
    async with serve(FakeModels(speech(real))) as served:
        answer = await asked(served, transcribe)
        assert answer.text == text
        assert (answer.usage.type, answer.usage.seconds) == ("duration", 2)


@pytest.mark.filterwarnings("ignore:deprecated")  # OpenAI has newer ways to translate
async def test_the_recording_arrives_byte_by_byte_and_so_do_the_wishes(serve: Serve) -> None:
    session = Scripted()
    async with serve(FakeModels(speech(session))) as served:
        wishes = {"language": "en", "prompt": "Grundfos", "temperature": 0.25}
        await asked(served, lambda c: transcribe(c, **wishes))
        assert session.heard == [WAV]
        assert session.asked == [TranscriptionRequest("en", False, "Grundfos", 0.25)]
        await asked(served, lambda c: c.audio.translations.create(model="tiny", file=FILE))
        assert session.asked[-1].translate


async def test_each_format_is_what_its_readers_expect(serve: Serve) -> None:
    async with serve(FakeModels(speech(Scripted()))) as served:
        forms: dict[str, Any] = {}
        for name in ("json", "text", "srt", "vtt", "verbose_json"):
            forms[name] = await asked(served, lambda c, n=name: transcribe(c, response_format=n))
        assert forms["json"].text == "word0 word1"
        assert forms["text"] == "word0 word1\n"
        assert forms["srt"].startswith("1\n00:00:00,000 --> 00:00:00,500\nword0\n\n2\n")
        assert forms["vtt"].startswith("WEBVTT\n\n00:00:00.000 --> 00:00:00.500\nword0\n\n")
        verbose = forms["verbose_json"]
        assert (verbose.text, verbose.duration, verbose.language) == ("word0 word1", 2.0, "en")
        assert [(s.id, s.start, s.end, s.text) for s in verbose.segments] == [
            (0, 0.0, 0.5, " word0"),
            (1, 1.0, 1.5, " word1"),
        ]
        assert verbose.segments[0].avg_logprob == -0.2
        assert verbose.words is None


async def test_words_are_timed_on_request(serve: Serve) -> None:
    async with serve(FakeModels(speech(Scripted()))) as served:
        wishes = {"response_format": "verbose_json", "timestamp_granularities": ["word"]}
        answer = await asked(served, lambda c: transcribe(c, **wishes))
        found = [(w.word, w.start, w.end) for w in answer.words]
        assert found == [("word0", 0.0, 0.5), ("word1", 1.0, 1.5)]
        assert answer.segments is None
        wishes["timestamp_granularities"] = ["word", "segment"]
        both = await asked(served, lambda c: transcribe(c, **wishes))
        assert len(both.words) == len(both.segments) == 2


async def test_a_stream_tells_the_text_as_it_is_understood(serve: Serve) -> None:
    async with serve(FakeModels(speech(Scripted(3)))) as served:
        events = await asked(served, lambda c: list(transcribe(c, stream=True)))
        assert [e.type for e in events] == ["transcript.text.delta"] * 3 + ["transcript.text.done"]
        assert "".join(e.delta for e in events[:-1]) == events[-1].text == "word0 word1 word2"


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"response_format": "diarized_json"}, "response_format"),
        ({"temperature": 1.5}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"language": "x" * 17}, "language"),
        ({"prompt": "x" * (MAX_PROMPT + 1)}, "prompt"),
        ({"timestamp_granularities": ["word"]}, "timestamp_granularities[]"),
        ({"timestamp_granularities": ["letter"]}, "timestamp_granularities[]"),
        ({"model": ""}, "none"),
    ],
)
async def test_wishes_that_are_wrong_are_named(
    serve: Serve, changes: dict[str, Any], where: str
) -> None:
    session = Scripted()
    async with serve(FakeModels(speech(session))) as served:
        error = await refused(served, lambda c: transcribe(c, **changes))
        assert error.status_code in {400, 404}
        assert where in {error.param, "none"}
        assert not session.heard


async def test_an_empty_field_is_as_one_that_is_not_there(serve: Serve) -> None:
    names = ("language", "prompt", "response_format", "temperature", "stream", "include[]")
    empty: Any = dict.fromkeys((*names, "timestamp_granularities[]"), "")
    session = Scripted()
    async with serve(FakeModels(speech(session))) as served:
        answer = await asked(served, lambda c: transcribe(c, extra_body=empty))
        assert answer.text
        assert session.asked == [TranscriptionRequest()]


async def test_any_failure_on_the_way_ends_the_stream_with_an_error(serve: Serve) -> None:
    broken = Scripted(failure=ZeroDivisionError("secret"))
    async with serve(FakeModels(speech(broken))) as served:
        with pytest.raises(openai.APIError, match="the log says why"):
            await asked(served, lambda c: list(transcribe(c, stream=True)))


async def test_a_form_without_a_file_or_a_model_is_refused(serve: Serve) -> None:
    async with serve(FakeModels(speech(Scripted()))) as served:
        for fields, param in (({"model": "tiny"}, "file"), ({"file": FILE}, "model")):
            body, media = encode_multipart_formdata(fields)
            reply = await served.call("POST", "/v1/audio/transcriptions", body, Content_Type=media)
            assert (reply.status, reply.json()["error"]["param"]) == (400, param)
        reply = await served.call("POST", "/v1/audio/transcriptions", b'{"model": "tiny"}')
        assert (reply.status, reply.json()["error"]["param"]) == (400, "Content-Type")


async def test_a_model_of_another_task_and_one_that_is_not_there_say_so(serve: Serve) -> None:
    async with serve(FakeModels(speech(Scripted()), echo(ECHO))) as served:
        error = await refused(served, lambda c: transcribe(c, model="echo"))
        assert error.status_code == 400
        assert "its task is tensor" in error.message
        error = await refused(served, lambda c: transcribe(c, model="none"))
        assert (error.status_code, error.code) == (404, "model_not_found")


async def test_a_recording_over_the_bound_is_refused_before_it_is_read(serve: Serve) -> None:
    async with serve(FakeModels(speech(Scripted()))) as served:
        head = request("POST", "/v1/audio/transcriptions", Content_Length=str(MAX_REQUEST + 1))
        wire = await served.connect()
        await wire.send(head.replace(b"Content-Length: 0\r\n", b""))
        reply = await wire.reply()
        assert (reply.status, reply.json()["error"]["code"]) == (413, "limit.size")


async def test_what_is_no_recording_is_the_callers_mistake(
    serve: Serve, real: SpeechSession
) -> None:
    async with serve(FakeModels(speech(real))) as served:
        error = await refused(served, lambda c: transcribe(c, file=("a.wav", b"RIFF and no more")))
        assert (error.status_code, error.code, error.param) == (400, "request.payload", "file")
        # Refused before the stream begins, with a status of its own.
        error = await refused(
            served, lambda c: list(transcribe(c, file=("a", b"#EXTM3U"), stream=True))
        )
        assert error.status_code == 400


async def test_a_model_that_dies_ends_the_stream_with_an_error(serve: Serve) -> None:
    failing = Scripted(2, WorkerDied("the model's process was ended by SIGKILL"))
    async with serve(FakeModels(speech(failing))) as served:
        told: list[str] = []

        def stream(client: openai.OpenAI) -> None:
            told.extend(event.delta for event in transcribe(client, stream=True))

        with pytest.raises(openai.APIError, match="SIGKILL"):
            await asked(served, stream)
        assert told == ["word0", " word1"]
        assert (await refused(served, transcribe)).status_code == 503
        await until(lambda: served.service.listeners.producers.running == 0)


async def test_a_client_that_goes_away_stops_the_model(serve: Serve) -> None:
    endless = Scripted(10**9)
    async with serve(FakeModels(speech(endless))) as served:
        body, media = encode_multipart_formdata({"model": "tiny", "file": FILE, "stream": "true"})
        wire = await served.connect()
        await wire.send(request("POST", "/v1/audio/transcriptions", body, Content_Type=media))
        await until(lambda: endless.told > 5)
        wire.close()
        await until(lambda: endless.cancelled)
        await until(lambda: served.service.listeners.producers.running == 0)


async def test_too_many_recordings_at_once_are_refused(serve: Serve) -> None:
    waiting = Scripted()
    waiting.gate.clear()
    async with serve(FakeModels(speech(waiting))) as served:
        body, media = encode_multipart_formdata({"model": "tiny", "file": FILE})
        call = request("POST", "/v1/audio/transcriptions", body, Content_Type=media)
        wires = [await served.connect() for _ in range(MAX_HEARING)]
        for wire in wires:
            await wire.send(call)
        await until(lambda: served.service.listeners.producers.running == MAX_HEARING)
        error = await refused(served, transcribe)
        assert (error.status_code, error.type) == (429, "rate_limit_error")
        waiting.gate.set()
        for wire in wires:
            assert json.loads((await wire.reply()).body)["text"] == "word0 word1"


async def test_seconds_are_counted(serve: Serve) -> None:
    async with serve(FakeModels(speech(Scripted()))) as served:
        await asked(served, transcribe)
        text = (await served.call("GET", "/metrics")).body.decode()
        assert 'edge_agent_transcription_audio_seconds_total{model="tiny"} 2' in text
