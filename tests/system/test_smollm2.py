"""The real SmolLM2, as `edge-agent models add smollm2` makes it; $EDGE_AGENT_SMOLLM2 names its package."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.support.device import device, install_models

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """OpenAI's client on the socket of a device with the model."""
    package = Path(os.environ.get("EDGE_AGENT_SMOLLM2", ""))
    if not (package / "model.toml").is_file():
        pytest.skip("EDGE_AGENT_SMOLLM2 names no package; edge-agent models add smollm2")
    place = tmp_path_factory.mktemp("s")
    models = install_models(place / "m", [package])
    with device(place / "d", "", models) as found:
        transport = httpx2.HTTPTransport(uds=str(found.start().socket))
        with httpx2.Client(transport=transport) as http:
            yield openai.OpenAI(
                api_key="none", base_url="http://agent/v1", http_client=http, max_retries=0
            )


def ask(client: openai.OpenAI, question: str, **changes: Any) -> Any:
    messages: Any = [{"role": "user", "content": question}]
    fields = {"model": "smollm2", "messages": messages, "temperature": 0, "max_tokens": 40}
    return client.chat.completions.create(**{**fields, **changes})


def test_the_capital_of_france_is_paris(client: openai.OpenAI) -> None:
    answer = ask(client, "What is the capital of France?")
    assert "Paris" in answer.choices[0].message.content


def test_a_form_is_kept(client: openai.OpenAI) -> None:
    form = {"type": "regex", "pattern": "(yes|no)"}
    answer = ask(client, "Is water wet?", extra_body={"response_format": form})
    assert answer.choices[0].message.content in ("yes", "no")


def test_the_second_turn_reads_only_what_is_new(client: openai.OpenAI) -> None:
    talk: Any = [{"role": "user", "content": "The pump hums, the valve is open. " * 60}]
    first = ask(client, "", messages=talk)
    talk += [
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "What hums?"},
    ]
    second = ask(client, "", messages=talk)
    known = second.usage.prompt_tokens_details.cached_tokens
    assert known >= first.usage.prompt_tokens - 2
