"""The bytes of tokens that are parts of characters."""

import json

import pytest

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
