"""`edge-agent transcribe`: what is said in recordings, by a speech model of the daemon."""

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from agent.api.client import Client
from agent.cli.options import find_socket, socket_option
from agent.cli.serving import model_for
from agent.cli.texts import visible
from agent.engines.audio import MAX_FILE
from agent.errors import BadPayload, TooLarge

FORMATS = {"text": "text", "srt": "srt", "vtt": "vtt", "json": "verbose_json"}
PATIENCE_S = 600.0  # for a whole transcript, or for the next passage of a text


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--model", default="", help="By default the device's first speech model.")
@click.option("--language", default="", help="What is spoken, for example de; else detected.")
@click.option("--translate", is_flag=True, help="Write English, whatever is spoken.")
@click.option("--prompt", default="", help="Names and words that may occur, as they are spelt.")
@click.option("--words", is_flag=True, help="Time each word too; with --format json.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(list(FORMATS)),
    default="text",
    show_default=True,
    help="Of the answer: srt and vtt are subtitles, json has everything.",
)
@socket_option
def transcribe(
    files: Sequence[str],
    model: str,
    language: str,
    translate: bool,
    prompt: str,
    words: bool,
    format_: str,
    socket_path: Path | None,
    config_path: Path | None,
) -> None:
    """Write down what is said in each FILE: wav, flac, ogg, mp3, m4a, mp4, webm or aac.

    A FILE of - is standard input.
    """
    if words and format_ != "json":
        raise BadPayload("words are timed in json only", hint="Add --format json")
    recordings = [_recording(file) for file in files]
    path = "/v1/audio/translations" if translate else "/v1/audio/transcriptions"
    fields = {"response_format": FORMATS[format_], "prompt": prompt, "language": language}
    fields |= {"timestamp_granularities[]": "word"} if words else {}
    with closing(Client(find_socket(socket_path, config_path), timeout_s=PATIENCE_S)) as client:
        fields["model"] = model or model_for(
            "speech-recognition",
            client,
            otherwise="no speech model is installed",
            hint="docs/speech.md says how to package one",
        )
        for file, data in zip(files, recordings, strict=True):
            if len(files) > 1 and format_ == "text":
                click.echo(f"{file}:")
            try:
                _show(client, path, fields, data, streamed=format_ == "text")
            except (BadPayload, TooLarge) as error:
                if error.where == "file":  # the daemon knows no name for it
                    error.where = file
                raise


def _show(
    client: Client, path: str, fields: dict[str, str], data: bytes, *, streamed: bool
) -> None:
    if not streamed:
        body, media = _form(fields, data)
        answer = client.request("POST", path, body, {"Content-Type": media})
        click.echo(answer.decode(), nl=False)
        return
    body, media = _form({**fields, "stream": "true"}, data)
    for event in client.written(path, body, content_type=media):
        if event["type"] == "transcript.text.delta":
            click.echo(visible(event["delta"]), nl=False)
    click.echo()


def _form(fields: dict[str, str], data: bytes) -> tuple[bytes, str]:
    from urllib3.filepost import encode_multipart_formdata

    given: dict[str, Any] = {name: text for name, text in fields.items() if text}
    return encode_multipart_formdata({**given, "file": ("recording", data)})


def _recording(file: str) -> bytes:
    """A file's bytes. Raises BadPayload: it cannot be read. TooLarge."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read(MAX_FILE + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(MAX_FILE + 1)
    except OSError as error:
        raise BadPayload(f"cannot be read: {error.strerror}", where=file) from error
    if len(data) > MAX_FILE:
        hint = "Cut it, or make it smaller: ffmpeg -i IN -ac 1 -ar 16000 OUT.ogg"
        raise TooLarge(f"more than {MAX_FILE // 2**20} MiB", where=file, hint=hint)
    return data
