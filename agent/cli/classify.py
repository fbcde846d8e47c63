"""`edge-agent classify`: what texts are about, by a classifier of the daemon."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from agent.api.classify import MAX_TOP
from agent.api.client import Client
from agent.cli.options import emit_json, find_socket, json_option, socket_option
from agent.cli.texts import given_texts
from agent.tasks.classification.classifier import MAX_TEXTS


@click.command()
@click.argument("model")
@click.argument("texts", nargs=-1)
@click.option(
    "--top", default=3, show_default=True, type=click.IntRange(1, MAX_TOP), help="Labels told."
)
@socket_option
@json_option
def classify(
    model: str,
    texts: Sequence[str],
    top: int,
    socket_path: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Say what TEXTS are about by MODEL: the likeliest label, and how sure the model is.

    Without TEXTS each line of standard input is one.
    """
    given = given_texts(texts)
    with closing(Client(find_socket(socket_path, config_path))) as client:
        results = list(_results(client, model, given, top))
    if as_json:
        emit_json({"results": results})
        return
    for text, result in zip(given, results, strict=True):
        click.echo(_line(text, result))


def _results(client: Client, model: str, texts: Sequence[str], top: int) -> Iterator[Any]:
    """Answers in the order of the texts, as many in a request as the daemon takes."""
    for begin in range(0, len(texts), MAX_TEXTS):
        asked = {"model": model, "input": texts[begin : begin + MAX_TEXTS], "top": top}
        yield from client.post("/api/classify", asked)["results"]


def _line(text: str, result: Any) -> str:
    label = result["label"] or "(out of scope)"
    others = ", ".join(
        f"{each['label']} {each['confidence']:.0%}"
        for each in result["labels"]
        if each["label"] != result["label"]
    )
    return f"{label:<16} {result['confidence']:4.0%}  {text}" + (f"  [{others}]" if others else "")
