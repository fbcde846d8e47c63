"""The proof that the packaged tokenizer reads texts as transformers' does."""

from pathlib import Path
from typing import Any, NamedTuple

from agent.errors import BadModel
from agent.tasks.embedding.tokens import Tokenizer
from tools.quantize.folder import TOKENIZER
from tools.quantize.libraries import quiet, reading
from tools.quantize.proof import EDGES, ITSELF, TEXTS, prove


class Proved(NamedTuple):
    """A tokenizer.

    Attributes:
        data: bytes of its `tokenizer.json`.
        notes: what could not be proved, for the report.
    """

    data: bytes
    notes: tuple[str, ...] = ()


def check(folder: Path, max_tokens: int) -> Proved:
    """The tokenizer of a folder, when it reads as transformers' own.

    Raises:
        BadModel: there is none, or it reads a text differently; says which.
        EngineMissing: transformers is not installed.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        hint = "Save it with transformers: AutoTokenizer.from_pretrained(…).save_pretrained(…)"
        raise BadModel(f"the folder holds no {TOKENIZER}", where=str(folder), hint=hint)
    data = path.read_bytes()
    try:
        packaged = Tokenizer(data, max_tokens)
    except BadModel as error:
        raise BadModel(error.message, where=str(path), hint=error.hint) from error
    own = slow_tokenizer(folder)
    if own is None:
        return Proved(data, (ITSELF,))
    prove(
        lambda text: own(text, truncation=True, max_length=max_tokens).input_ids,
        lambda text: packaged.ids([text])[0],
        (*TEXTS, *EDGES),
        str(path),
    )
    return Proved(data)


def slow_tokenizer(folder: Path) -> Any:
    """Transformers' tokenizer that does not read `tokenizer.json`; None where it has no such one.

    Asked for a slow tokenizer, transformers silently gives the fast one of a model that has no other,
    or that lacks its files: which is the packaged one itself.

    Raises:
        BadModel: transformers cannot read the folder's tokenizer.
        EngineMissing: transformers is not installed.
    """
    with reading(folder), quiet():
        from transformers import AutoTokenizer

        own = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, use_fast=False, trust_remote_code=False
        )
    return None if own.is_fast else own
