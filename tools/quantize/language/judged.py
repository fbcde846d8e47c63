"""What a language model is judged on: the project's texts and questions, or a person's own."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from agent.errors import BadPayload
from tools.quantize.language.texts import Prompt, evaluation_prompts, perplexity_text

MAX_FILE = 2**20  # bytes; a text of so many takes a small model an hour
PROJECTS = "200 questions of three kinds and a story of seven paragraphs, the project's own"

Words = Annotated[str, msgspec.Meta(min_length=1)]
Text = Annotated[str, msgspec.Meta(min_length=32)]  # in a shorter one little can be foretold


@dataclass(frozen=True, slots=True)
class Passage:
    """A text whose perplexity is taken, and the slice that it belongs to."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Judged:
    """An evaluation set.

    Attributes:
        passages: texts; each is read from its beginning.
        prompts: questions whose answers' first tokens are compared with the float model's.
        about: where they are from, for the card.
    """

    passages: tuple[Passage, ...]
    prompts: tuple[Prompt, ...]
    about: str


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    text: Text | None = None
    prompt: Words | None = None
    slice: Words | None = None


def projects() -> Judged:
    """The project's own: the same for every model, so that models can be compared."""
    parts = perplexity_text().split("\n\n")
    story = tuple(Passage(f"paragraph {n}", part) for n, part in enumerate(parts, 1))
    return Judged(story, tuple(evaluation_prompts()), PROJECTS)


def read(path: Path | None) -> Judged:
    """A person's own: JSON lines, each with a `prompt` or a `text`, and a `slice` if one likes.

    A set without texts, or without questions, has the project's.

    Raises:
        BadPayload: it cannot be read, is too large, or a line is neither; says which.
    """
    own = projects()
    if path is None:
        return own
    lines = list(_lines(path))
    if not lines:
        raise BadPayload("there is no text and no prompt", where=str(path))
    passages = tuple(Passage(line.slice or "texts", line.text) for line in lines if line.text)
    prompts = tuple(Prompt(line.slice or "prompts", line.prompt) for line in lines if line.prompt)
    about = f"{len(passages)} texts and {len(prompts)} questions of {path.name}"
    if not passages or not prompts:
        about += f"; {'questions' if passages else 'texts'} of the project's own"
    return Judged(passages or own.passages, prompts or own.prompts, about)


def _lines(path: Path) -> Iterator[_Line]:
    hint = 'a line is {"prompt": "…"} or {"text": "…"}, with "slice": "…" if you like'
    decoder = msgspec.json.Decoder(_Line)
    for number, line in enumerate(_content(path).splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            found: Any = decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadPayload(str(error), where=where, hint=hint) from error
        if (found.text is None) == (found.prompt is None):
            raise BadPayload("neither a prompt nor a text, or both", where=where, hint=hint)
        yield found


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE:
            raise BadPayload(f"at most {MAX_FILE >> 20} MiB", where=str(path))
        return path.read_bytes()
    except OSError as error:
        raise BadPayload(f"cannot be read: {error.strerror}", where=str(path)) from error
