"""`edge-agent chat`: talk with a language model of a running daemon."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.options import find_socket, socket_option
from agent.cli.serving import model_for
from agent.cli.texts import visible
from agent.errors import AgentError

if TYPE_CHECKING:
    from agent.api.client import Client

HELP = """\
/system TEXT   tell the model how to behave; the conversation begins again
/reset         begin again
/stats         tokens and speed of the last answer, and memory
//TEXT         say what begins with a slash; a space before it does the same
/help          this
/quit          leave (or Ctrl-D); Ctrl-C stops an answer"""

KEPT = (
    1024  # messages of both sides; the daemon takes twice as many, and the model's window far fewer
)


@dataclass
class Conversation:
    """What has been said, and what the last answer cost.

    Attributes:
        model: its name.
        options: of each request, beside the messages.
        system: how the model is to behave; empty for its own default.
        turns: the last messages of both sides.
        stats: of the last answer, for a person.
    """

    model: str
    options: dict[str, Any]
    system: str = ""
    turns: list[dict[str, str]] = field(default_factory=list)
    stats: str = "nothing has been said yet"

    def ask(self, client: "Client", text: str) -> Iterator[str]:
        """Say something; the answer's text as it comes. What was not answered is not remembered."""
        question = {"role": "user", "content": text}
        body = {
            "model": self.model,
            "messages": [*self._system(), *self.turns, question],
            "stream": True,
            "stream_options": {"include_usage": True},
            "truncation": "auto",
            **self.options,
        }
        answer: list[str] = []
        try:
            yield from self._read(client, body, answer)
        finally:
            if answer:
                said = {"role": "assistant", "content": "".join(answer)}
                self.turns = [*self.turns, question, said][-KEPT:]

    def command(self, line: str, client: "Client") -> str:
        """Do what a line that begins with a slash says; what is to be shown."""
        word, _, rest = line.partition(" ")
        if word == "/system":
            self.system, self.turns = rest.strip(), []
            return "The conversation begins again."
        if word == "/reset":
            self.turns = []
            return "The conversation begins again."
        if word == "/stats":
            return f"{self.stats}; {self._memory(client)}"
        if word == "/help":
            return HELP
        return f"There is no {word}. To say it, write /{line}\n{HELP}"

    def _system(self) -> list[dict[str, str]]:
        return [{"role": "system", "content": self.system}] if self.system else []

    def _read(self, client: "Client", body: dict[str, Any], answer: list[str]) -> Iterator[str]:
        began, first = time.monotonic(), 0.0
        self.stats = "the last answer ended before its figures came"
        for event in client.written("/v1/chat/completions", body):
            for choice in event["choices"]:
                if text := choice["delta"].get("content"):
                    first = first or time.monotonic()
                    answer.append(text)
                    yield text
            if usage := event.get("usage"):
                self.stats = _stats(usage, first - began, time.monotonic() - first)

    def _memory(self, client: "Client") -> str:
        """Of the model's process, if it has one, of the daemon, and what is free."""
        status = client.get_json("/api/status")
        own = next((m["memory_mib"] for m in status["models"] if m["name"] == self.model), None)
        machine = status["machine"]
        shown = f"{self.model} {own:.0f} MiB, " if own is not None else ""
        shown += f"daemon {machine['memory_mib']:.0f} MiB, "
        return f"{shown}{machine['available_mib']:.0f} MiB free"


@click.command()
@click.argument("model", required=False)
@socket_option
@click.option("--system", default="", help="How the model is to behave.")
@click.option(
    "--temperature",
    type=click.FloatRange(0, 2),
    default=0.7,
    show_default=True,
    help="How freely words are chosen; 0: always the likeliest.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    default=512,
    show_default=True,
    help="Of one answer; a token is about three quarters of a word.",
)
def chat(
    model: str | None,
    socket_path: Path | None,
    config_path: Path | None,
    system: str,
    temperature: float,
    max_tokens: int,
) -> None:
    """Talk with MODEL, by default the device's language model. One message a line.

    /system, /reset, /stats, /help and /quit are commands; // begins a message with a slash.
    """
    from agent.api.client import Client

    client = Client(find_socket(socket_path, config_path), timeout_s=300.0)
    options = {"temperature": temperature, "max_tokens": max_tokens}
    chosen = model or model_for(
        "text-generation",
        client,
        otherwise="no language model is installed",
        hint="Run: edge-agent models add smollm2",
    )
    conversation = Conversation(chosen, options, system)
    if sys.stdin.isatty():
        click.echo(f"Talking with {conversation.model}. /help says what else there is.")
    for line in _lines():
        if line == "/quit":
            break
        _answer(conversation, client, line)


def _answer(conversation: Conversation, client: "Client", line: str) -> None:
    """Show what becomes of a line; an error ends the answer, not the conversation."""
    try:
        if line.startswith("/") and not line.startswith("//"):
            click.echo(conversation.command(line, client))
            return
        said = line[1:] if line.startswith("//") else line.strip()
        for text in conversation.ask(client, said):
            click.echo(visible(text), nl=False)
        click.echo()
    except KeyboardInterrupt:
        click.echo(" (stopped)")
    except AgentError as error:
        if not sys.stdin.isatty():
            raise
        click.echo(f"\n{error} [{error.code}]", err=True)


def _lines() -> Iterator[str]:
    """What a person types, or what a pipe holds, without empty lines; a space before a line stays."""
    if sys.stdin.isatty():
        import readline  # noqa: F401 (editing and history of what is typed)
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").rstrip()
        except EOFError:
            return
        except KeyboardInterrupt:
            click.echo()
            return
        if line:
            yield line


def _stats(usage: dict[str, Any], first_s: float, rest_s: float) -> str:
    tokens, prompt = usage["completion_tokens"], usage["prompt_tokens"]
    known = usage["prompt_tokens_details"]["cached_tokens"]
    rate = (tokens - 1) / rest_s if tokens > 1 and rest_s > 0 else 0.0
    return (
        f"{tokens} tokens at {rate:.0f} tokens/s, the first after {1000 * first_s:.0f} ms; "
        f"prompt of {prompt} tokens, {known} of them remembered"
    )
