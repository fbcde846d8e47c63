"""The bytes of tokens that are parts of characters."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engines.vocabulary import untold_bytes
from agent.errors import BadModel
from tests.support import tiny_language


def tokenizer(vocab: object, decoder: object) -> bytes:
    return json.dumps({"model": {"vocab": vocab}, "decoder": decoder}).encode()


def test_each_byte_of_a_vocabulary_of_bytes_is_known() -> None:
    found = untold_bytes(tiny_language.files()["tokenizer.json"])
    parts = [b"\0", *(bytes([byte]) for byte in range(0x80, 0x100))]
    assert sorted(v for k, v in found.items() if k < 256) == parts
    assert [found[256 + n].decode() for n in range(3)] == tiny_language.SPECIAL


def test_tokens_of_several_bytes_are_partial_where_a_character_is_cut() -> None:
    vocab = {"âĤ¬": 0, "âĤ": 1, "¬": 2, "Ġa": 3, "Ã©": 4, "aÃ": 5, "<|end|>": 6}
    decoder = {"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "ByteLevel"}]}
    expected = {1: b"\xe2\x82", 2: b"\xac", 5: b"a\xc3"}
    assert untold_bytes(tokenizer(vocab, decoder)) == expected


def test_bytes_that_are_written_as_numbers() -> None:
    vocab = {"<0xE2>": 3, "<0x41>": 4, "<0xe2>": 5, "â": 6}
    decoder = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}]}
    assert untold_bytes(tokenizer(vocab, decoder)) == {3: b"\xe2"}


@pytest.mark.parametrize("vocab", [None, [["a", -1.5]], {}])
def test_other_vocabularies_have_none(vocab: object) -> None:
    assert untold_bytes(tokenizer(vocab, None)) == {}


def test_what_cannot_be_read_is_no_tokenizer() -> None:
    with pytest.raises(BadModel):
        untold_bytes(b"\xff")


LETTERS = st.text(st.sampled_from('âĤ¬ĠaÃ©"\\:,{}[]0 9\n'), max_size=6)


@given(st.dictionaries(LETTERS, st.integers(0, 10**6), max_size=20), st.booleans())
def test_entries_are_found_whatever_is_in_them(vocab: dict[str, int], ascii_only: bool) -> None:
    """They are read one at a time out of the text, where quotes, colons and numbers mean other things."""
    fields = {"model": {"vocab": vocab}, "decoder": {"type": "ByteLevel"}}
    found = untold_bytes(json.dumps(fields, ensure_ascii=ascii_only).encode())
    expected = {token: raw for text, token in vocab.items() if (raw := cut(text)) is not None}
    assert found == expected


def cut(text: str) -> bytes | None:
    """The bytes that a text of letters stands for, where they are no whole characters."""
    known = {"â": 0xE2, "Ĥ": 0x82, "¬": 0xAC, "Ġ": 0x20, "Ã": 0xC3, "©": 0xA9}
    if any(letter in " \n" for letter in text):
        return None  # no letter of a byte
    raw = bytes(known.get(letter, ord(letter)) for letter in text)
    try:
        raw.decode()
    except UnicodeDecodeError:
        return raw
    return None
