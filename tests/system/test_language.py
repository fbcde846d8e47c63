"""A language model of the real runtime, in its worker, asked by OpenAI's client."""

import hashlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.support import tiny_language
from tests.support.device import Device, command, device, eventually, install_models

TOKEN = "a-token-of-at-least-thirty-two-letters"
CHAT: Any = [{"role": "user", "content": "Where is the pump?"}]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A device with the tiny model; it listens on TCP as well."""
    place = tmp_path_factory.mktemp("lm")
    models = install_models(place / "m", [tiny_language.package(place / "packages")])
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    config = f'tcp = "127.0.0.1:{free_port()}"\ntokens = ["app:{digest}"]\n'
    with device(place / "d", config, models) as found:
        yield found.start()


@pytest.fixture
def asked(talker: Device) -> Iterator[openai.OpenAI]:
    """OpenAI's client on the Unix socket."""
    transport = httpx2.HTTPTransport(uds=str(talker.socket))
    with httpx2.Client(transport=transport) as http:
        yield openai.OpenAI(
            api_key="none", base_url="http://agent/v1", http_client=http, max_retries=0
        )


def ask(asked: openai.OpenAI, **changes: Any) -> Any:
    fields = {"model": "tiny-language", "messages": CHAT, "max_tokens": 16, "seed": 1, **changes}
    return asked.chat.completions.create(**fields)


def workers(talker: Device) -> list[int]:
    """Children of the daemon."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == talker.pid:
            found.append(int(stat.parent.name))
    return found


def test_the_openai_client_by_the_unix_socket(talker: Device, asked: openai.OpenAI) -> None:
    assert [m.id for m in asked.models.list()] == ["tiny-language"]
    whole = ask(asked)
    pieces = [c.choices[0].delta.content or "" for c in ask(asked, stream=True)]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len(workers(talker)) == 1  # it runs apart from the daemon


def test_the_openai_client_by_tcp_needs_a_token(talker: Device) -> None:
    address = talker.config.split('"')[1]
    url = f"http://{address}/v1"
    with openai.OpenAI(api_key=TOKEN, base_url=url, max_retries=0) as known:
        assert ask(known).choices
    with (
        openai.OpenAI(api_key="wrong", base_url=url, max_retries=0) as unknown,
        pytest.raises(openai.AuthenticationError),
    ):
        ask(unknown)


def test_a_worker_killed_in_the_middle_of_a_stream_ends_it_with_an_error(
    talker: Device, asked: openai.OpenAI
) -> None:
    form = {"type": "regex", "pattern": "[ab]{400}"}  # it cannot end early
    stream = iter(ask(asked, stream=True, max_tokens=400, extra_body={"response_format": form}))
    next(stream)
    (worker,) = workers(talker)
    os.kill(worker, signal.SIGSTOP)  # so that it cannot have finished before
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(openai.APIError, match=r"ended|died|SIGKILL"):
        list(stream)
    eventually(lambda: workers(talker) not in ([], [worker]), what="another worker")
    assert ask(asked).usage.completion_tokens == 16


def talked(talker: Device, lines: str, *options: str) -> str:
    """What `edge-agent chat` shows for these lines."""
    done = subprocess.run(
        [*command(), "chat", "--socket", str(talker.socket), *options],
        input=lines,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        errors="replace",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_talking_on_the_command_line(talker: Device) -> None:
    lines = "hello\n/stats\n/system Be brief.\n/unknown\nagain\n/quit\n"
    said = talked(talker, lines, "--max-tokens", "8")
    assert "8 tokens at" in said or "tokens/s" in said
    assert "tiny-language " in said  # its process' memory
    assert "/reset" in said  # the help, for a command that is not known


def test_what_begins_with_a_slash_can_be_said(talker: Device) -> None:
    unknown = talked(talker, "/etc/passwd is what?\n")
    assert "There is no /etc/passwd. To say it, write //etc/passwd is what?" in unknown
    for line in ("//etc/passwd is what?", " /etc/passwd is what?"):
        said = talked(talker, f"{line}\n/stats\n", "--max-tokens", "4")
        assert " tokens at " in said
        assert "There is no" not in said


def test_the_model_does_not_command_the_terminal(talker: Device) -> None:
    """Random weights write every byte there is."""
    said = talked(talker, "hello\nagain\n", "--temperature", "2", "--max-tokens", "200")
    assert [c for c in said if c < " " and c not in "\n\t"] == []
    assert [c for c in said if "\x7f" <= c < "\xa0"] == []
