"""`edge-agent embed`: texts to vectors, with an encoder of the daemon."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import click

from agent.api.client import Client
from agent.cli.options import emit_json, find_socket, json_option, socket_option
from agent.cli.texts import given_texts

SHOWN = 6  # elements of a vector, where it is for a person


@click.command()
@click.argument("model")
@click.argument("texts", nargs=-1)
@socket_option
@json_option
def embed(
    model: str,
    texts: Sequence[str],
    socket_path: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Show what TEXTS are to MODEL: vectors, and how alike each is to the first.

    Without TEXTS each line of standard input is one.
    """
    given = given_texts(texts)
    with closing(Client(find_socket(socket_path, config_path))) as client:
        answer = client.post("/v1/embeddings", {"model": model, "input": given})
    vectors = [item["embedding"] for item in answer["data"]]
    if as_json:
        emit_json({"vectors": vectors, "tokens": answer["usage"]["prompt_tokens"]})
        return
    for text, vector in zip(given, vectors, strict=True):
        alike = sum(a * b for a, b in zip(vectors[0], vector, strict=True))
        shown = " ".join(f"{value:+.3f}" for value in vector[:SHOWN])
        click.echo(f"{alike:+.3f}  [{shown} … {len(vector)}]  {text}")
