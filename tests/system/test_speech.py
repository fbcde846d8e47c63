"""Speech as a user has it: a signed package, a daemon, its command and OpenAI's client."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import pytest

from tests.support import tiny_whisper
from tests.support.device import Device, device, install_models
from tests.support.recordings import encoded


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    place = tmp_path_factory.mktemp("s")
    models = install_models(place / "m", [tiny_whisper.package(place / "p")])
    with device(place / "d", "", models) as found:
        (found.directory / "said.wav").write_bytes(tiny_whisper.wav(tiny_whisper.sound(30.0)))
        sound = tiny_whisper.sound(1200.0)
        (found.directory / "long.ogg").write_bytes(encoded("ogg", sound, 16_000))
        yield found.start()


@pytest.fixture
def client(daemon: Device) -> Iterator[openai.OpenAI]:
    transport = httpx2.HTTPTransport(uds=str(daemon.socket))
    with httpx2.Client(transport=transport, timeout=60) as http:
        yield openai.OpenAI(
            api_key="none", base_url="http://agent/v1", http_client=http, max_retries=0
        )


def test_the_command_and_the_client_hear_the_same(daemon: Device, client: openai.OpenAI) -> None:
    said = daemon.run("transcribe", "said.wav", "--format", "json")
    told = json.loads(said.stdout)
    with (daemon.directory / "said.wav").open("rb") as file:
        heard = client.audio.transcriptions.create(model="tiny-whisper", file=file)
    assert heard.text == told["text"]
    assert told["duration"] == 30.0
    assert told["segments"]
    streamed = daemon.run("transcribe", "--model", "tiny-whisper", "said.wav")
    assert streamed.stdout == told["text"] + "\n"


def test_subtitles_of_a_long_recording(daemon: Device) -> None:
    found = daemon.run("transcribe", "long.ogg", "--format", "vtt").stdout
    assert found.startswith("WEBVTT\n\n")
    assert "\n00:19:" in found  # it was heard to its end


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["nothing.wav"], 2, "nothing.wav: cannot be read: No such file"),
        (["edge-agent.toml"], 2, "edge-agent.toml: not a recording of a known form. Send wav"),
        (["said.wav", "--language", "xx"], 2, "the model does not know 'xx'. It knows: en"),
        (["said.wav", "--translate"], 2, "does not translate"),
        (["said.wav", "--words"], 2, "Add --format json"),
        (["said.wav", "--model", "none"], 2, "none"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    daemon: Device, arguments: list[str], status: int, words: str
) -> None:
    found = daemon.run("transcribe", *arguments, check=False)
    assert (found.returncode, found.stdout) == (status, "")
    assert words in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


def test_a_worker_that_is_killed_while_it_hears_ends_the_stream_with_an_error(
    daemon: Device, client: openai.OpenAI
) -> None:
    workers = children(daemon.pid)
    assert workers
    path = Path(daemon.directory, "long.ogg")
    stream = client.audio.transcriptions.create(model="tiny-whisper", file=path, stream=True)
    events = iter(stream)
    next(events)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    with pytest.raises(openai.APIError, match="SIGKILL"):
        list(events)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not daemon.run("transcribe", "said.wav", check=False).returncode:
            return
    pytest.fail("it does not hear again")


def children(pid: int) -> list[int]:
    """Of every thread of a process."""
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for each in listed for child in each.read_text().split()]
