"""docs/api.md, and what the README shows of it: every curl line works as it stands, and every verb has one."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest

from agent.api.callers import Role
from agent.api.tokens import issue
from tests.support import tiny_encoder, tiny_language, tiny_whisper
from tests.support.device import ROOT, Device, device, install_models
from tests.system.conftest import PIPELINE

PAGE = (ROOT / "docs" / "api.md").read_text()
FRONT = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [*BLOCK.findall(PAGE), *(block for block in BLOCK.findall(FRONT) if "curl" in block)]

#: Paths whose lines are on pages of their own, with what they need.
ELSEWHERE = ("/api/escalations",)

#: Before each block: an error of any line is an error of the block; an endless answer is left.
PRELUDE = """
set -euo pipefail
curl() {
    local arguments=("$@") events=0
    for word in "$@"; do [[ $word == */api/events ]] && events=1; done
    if ((events)); then
        command curl --silent --show-error --fail-with-body --max-time 1 "$@" || (($? == 28))
    else
        command curl --silent --show-error --fail-with-body --max-time 30 "$@"
    fi
}
"""


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found


@pytest.fixture(scope="module")
def environment(
    tmp_path_factory: pytest.TempPathFactory, port: int
) -> Iterator[tuple[Device, dict[str, str]]]:
    """A daemon for the whole page, whose lines follow on one another."""
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    token, entry = issue(Role.APP)
    config = f'tcp = "127.0.0.1:{port}"\ntokens = ["{entry}"]\n{PIPELINE}'
    place = tmp_path_factory.mktemp("packages")
    packages = [
        *(ROOT / "models" / name for name in ("pump-anomaly", "intent")),
        tiny_language.package(place, "smollm2"),
        tiny_encoder.package(place, "minilm"),
        tiny_whisper.package(place, "whisper-tiny", multilingual=True),
    ]
    models = install_models(tmp_path_factory.mktemp("models"), packages)
    with device(tmp_path_factory.mktemp("docs"), config, models) as daemon:
        (daemon.directory / "call.wav").write_bytes(tiny_whisper.wav(tiny_whisper.sound()))
        daemon.start()
        yield daemon, {**os.environ, "S": str(daemon.socket), "TOKEN": token}


def test_every_block_of_lines_works_as_it_stands(
    environment: tuple[Device, dict[str, str]], port: int
) -> None:
    daemon, variables = environment
    for block in BLOCKS:
        lines = PRELUDE + block.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        done = subprocess.run(
            ["bash", "-c", lines],
            cwd=daemon.directory,
            env=variables,
            capture_output=True,
            timeout=60,
            check=False,
        )
        said = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
        assert done.returncode == 0, f"{block}\n{said}"


def test_every_verb_has_a_line(environment: tuple[Device, dict[str, str]]) -> None:
    daemon, _ = environment
    shown = {_asked(line) for block in BLOCKS for line in _commands(block)}
    missing = [
        f"{method.upper()} {path}"
        for path, item in daemon.get("/openapi.json").json["paths"].items()
        for method in item
        if not path.startswith(ELSEWHERE)
        and not any(verb == method and _fits(path, given) for verb, given in shown)
    ]
    assert missing == []


def _commands(block: str) -> list[str]:
    """The curl commands of a block, each with its lines joined."""
    found = re.split(r"^(?=.*\bcurl )", block, flags=re.MULTILINE)
    return [command for command in found if "curl " in command]


def _asked(command: str) -> tuple[str, str]:
    path = re.search(r"http://(?:d|127\.0\.0\.1:8000)(/[^\s'?]*)", command)
    assert path is not None, command
    return ("post" if "--data" in command or "--form" in command else "get"), path[1]


def _fits(pattern: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", pattern), path) is not None
