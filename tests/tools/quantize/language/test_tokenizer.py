"""A tokenizer that says something else than it does is mended, or refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from agent.engines.base import EngineOptions
from agent.engines.genai import GenAiSession
from agent.engines.generation import GenerationRequest
from agent.errors import BadModel
from tests.support import tiny_language
from tools.quantize.language.tokenizer import mended, proof_texts
from tools.quantize.proof import PARAGRAPH, prove


def saved(**changes: Any) -> bytes:
    """A byte-level tokenizer as a converter saves it."""
    fields = json.loads(tiny_language.files()["tokenizer.json"])
    fields["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "ByteFallback"},
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True},
        ],
    }
    fields["model"]["byte_fallback"] = True
    return json.dumps({**fields, **changes}).encode()


def ids_of(data: bytes) -> Any:
    tokenizer = Tokenizer.from_str(data.decode())
    return lambda text: tokenizer.encode(text).ids


def runtime(data: bytes) -> GenAiSession:
    return GenAiSession(
        b"", EngineOptions(1, {**tiny_language.files(), "tokenizer.json": data}, {})
    )


def proved(data: bytes) -> int:
    session = runtime(data)
    try:
        return prove(
            ids_of(data),
            lambda text: session.tokens(GenerationRequest(text=text[:300])).tolist(),
            [text[:300] for text in proof_texts(data)],
        )
    finally:
        session.close()


def test_the_mended_tokenizer_is_read_alike_by_the_runtime() -> None:
    data = mended(saved(), pre="smollm")
    session = runtime(data)
    for text in (line for line in PARAGRAPH.split("\n") if line):
        assert session.tokens(GenerationRequest(text=text)).tolist() == ids_of(data)(text)
    session.close()


def test_the_mended_tokenizer_splits_as_the_one_that_only_names_its_steps() -> None:
    """On a vocabulary with pieces that span what is split."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: n for n, letter in enumerate(alphabet)}
    merges = [("1", "2"), ("Ċ", "Ċ"), ("Ġ", "Ġ"), ("h", "e"), ("Ġ", "he"), ("č", "Ċ")]
    for one, two in merges:
        vocab[one + two] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.decoder = decoders.ByteLevel()
    for digits in (True, False):
        steps = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, byte_level])
        data = tokenizer.to_str().encode()
        after = mended(data)
        assert json.loads(after)["model"]["merges"] == [" ".join(pair) for pair in merges]
        for text in (PARAGRAPH, "12 12", "a\n\n\n  he", "x\r\ny", "  12  he he", "\n\n1"):
            assert ids_of(after)(text) == ids_of(data)(text)


def test_digits_are_split_as_the_gguf_says() -> None:
    data = mended(saved(), pre="smollm")
    steps = json.loads(data)["pre_tokenizer"]["pretokenizers"]
    assert steps[0]["pattern"] == {"Regex": r"\p{N}"}
    assert len(json.loads(mended(saved(), pre="gpt-2"))["pre_tokenizer"]["pretokenizers"]) == 2


def test_a_tokenizer_of_another_kind_is_left_as_it_is() -> None:
    data = json.dumps({"model": {"type": "Unigram"}, "pre_tokenizer": None}).encode()
    assert mended(data) == data


def test_a_disagreement_is_refused_and_named() -> None:
    def wrong(text: str) -> list[int]:
        return [-1 if ord(c) > 0x3000 else ord(c) for c in text]

    with pytest.raises(BadModel, match="a device reads 'Привет"):
        prove(lambda text: [ord(c) for c in text], wrong)


def test_control_tokens_are_part_of_the_proof() -> None:
    def without(text: str) -> list[int]:
        return [ord(c) for c in text.replace("<|end|>", "")]

    data = json.dumps({"added_tokens": [{"content": "<|end|>", "special": True}]}).encode()
    texts = proof_texts(data)
    with pytest.raises(BadModel, match=r"<\|end\|>"):
        prove(lambda text: [ord(c) for c in text], without, texts)
    assert prove(without, without, texts) > 500


def test_the_perplexity_text_is_packaged() -> None:
    import tools.quantize.language as package

    assert package.__file__
    assert (Path(package.__file__).parent / "perplexity.txt").exists()
