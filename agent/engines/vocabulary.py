"""The bytes of those tokens of a `tokenizer.json` whose text does not say them. Pure.

The text of a part of a character is a replacement character, and so is what the runtime makes of a
control token or a NUL alone.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import msgspec

from agent.errors import BadModel

_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")  # a byte, as SentencePiece writes it
_ENTRY = re.compile(rb'("(?:[^"\\]|\\.)*")\s*:\s*(\d+)')  # of an object of numbers


class _Model(msgspec.Struct):
    vocab: msgspec.Raw = msgspec.Raw(b"null")


class _Added(msgspec.Struct):
    id: int
    content: str
    special: bool = False


class _Tokenizer(msgspec.Struct):
    added_tokens: list[_Added] = []
    model: _Model = msgspec.field(default_factory=_Model)
    decoder: Any = None


def untold_bytes(tokenizer: bytes) -> dict[int, bytes]:
    """The bytes of parts of characters and of control tokens, by token id.

    Vocabularies of characters have no such parts; of kinds that are not known, none is named. Raises
    BadModel.
    """
    try:
        found = msgspec.json.decode(tokenizer, type=_Tokenizer)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadModel(f"it cannot be read: {error}", where="tokenizer.json") from error
    control = {token.id: token.content.encode() for token in found.added_tokens if token.special}
    vocabulary = bytes(found.model.vocab)
    if not vocabulary.startswith(b"{"):
        return control
    read = _by_letters if "ByteLevel" in _kinds(found.decoder) else _by_number
    return {token: raw for token, raw in read(_entries(vocabulary)) if not _whole(raw)} | control


def _entries(vocabulary: bytes) -> Iterator[tuple[str, int]]:
    """Text and id of each token, one at a time: all at once they take megabytes that do not come back."""
    for found in _ENTRY.finditer(vocabulary):
        yield msgspec.json.decode(found[1], type=str), int(found[2])


def _kinds(decoder: Any) -> Iterator[str]:
    """Of a decoder and of those that it is made of."""
    if isinstance(decoder, dict):
        yield str(decoder.get("type"))
        for part in decoder.get("decoders") or ():
            yield from _kinds(part)


def _by_letters(vocabulary: Iterable[tuple[str, int]]) -> Iterator[tuple[int, bytes]]:
    letters = _letters()
    for text, token in vocabulary:
        if all(letter in letters for letter in text):
            yield token, bytes(letters[letter] for letter in text)


def _by_number(vocabulary: Iterable[tuple[str, int]]) -> Iterator[tuple[int, bytes]]:
    for text, token in vocabulary:
        if number := _FALLBACK.fullmatch(text):
            yield token, bytes.fromhex(number[1])


@cache
def _letters() -> Mapping[str, int]:
    """Byte-level vocabularies write each byte as a letter: printable ones as themselves, others above."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + n): b for n, b in enumerate(others)}


def _whole(raw: bytes) -> bool:
    try:
        return "\0" not in raw.decode()
    except UnicodeDecodeError:
        return False
