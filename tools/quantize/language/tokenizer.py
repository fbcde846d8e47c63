"""A `tokenizer.json` that every library reads alike, and what it is asked in its proof."""

from collections.abc import Mapping
from typing import Any

import msgspec

from tools.quantize.proof import TEXTS

_BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": True,
    "trim_offsets": True,
    "use_regex": True,
}

#: What a byte-level tokenizer splits text by (Radford et al., 2019).
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT = r"\p{N}"

#: How a GGUF file's `tokenizer.ggml.pre` splits numbers, where its converter does not say so.
_SPLIT_DIGITS = frozenset({"smollm", "starcoder", "refact", "command-r"})


def mended(data: bytes, *, pre: str = "", begins: bool | None = None) -> bytes:
    """A `tokenizer.json` that says what it does.

    A converter that does not know a byte-level tokenizer writes the decoder of another kind before
    the right one; a runtime that goes by the first takes it for SentencePiece and gives ids of -1.
    How text is split is written as patterns, which every library reads alike.

    Args:
        data: of the file.
        pre: the GGUF's name for how text is split; empty where there is none.
        begins: whether a token is put before each text; None leaves it as it is.
    """
    fields = msgspec.json.decode(data, type=dict[str, Any])
    if not _is_byte_level(fields):
        return data
    fields["decoder"] = _BYTE_LEVEL
    fields["model"]["byte_fallback"] = False
    fields["model"]["fuse_unk"] = False
    fields["model"]["merges"] = [_merge(pair) for pair in fields["model"]["merges"]]
    fields["pre_tokenizer"] = _spelt_out(fields["pre_tokenizer"], digits=pre in _SPLIT_DIGITS)
    if begins is False:
        fields["post_processor"] = {**_BYTE_LEVEL, "trim_offsets": False}
    return msgspec.json.encode(fields)


def _merge(pair: str | list[str]) -> str | list[str]:
    """Two pieces as one string, as the file's first form has them: a tenth of it less, and read by all."""
    apart = isinstance(pair, str) or any(" " in piece for piece in pair)
    return pair if apart else " ".join(pair)


def _spelt_out(pre_tokenizer: Mapping[str, Any], *, digits: bool) -> dict[str, Any]:
    """The same splits, each as a pattern of its own.

    The runtime has code of its own for what is only named, and it differs: it takes a run of line
    ends for one piece where the regular expression does not, and digits for words.
    """
    steps = [_split(_DIGIT)] if digits else []
    for step in pre_tokenizer.get("pretokenizers", [pre_tokenizer]):
        if step["type"] == "Digits" and step.get("individual_digits"):
            steps.append(_split(_DIGIT))
        elif step["type"] == "ByteLevel" and step.get("use_regex", True):
            steps += [_split(_WORDS), {**step, "use_regex": False}]
        else:
            steps.append(step)
    return {"type": "Sequence", "pretokenizers": steps}


def _split(pattern: str) -> dict[str, Any]:
    found = {"type": "Split", "pattern": {"Regex": pattern}}
    return {**found, "behavior": "Isolated", "invert": False}


def _is_byte_level(fields: Mapping[str, Any]) -> bool:
    pre = fields.get("pre_tokenizer") or {}
    kinds = [pre.get("type"), *(p.get("type") for p in pre.get("pretokenizers", ()))]
    return "ByteLevel" in kinds and fields["model"].get("type") == "BPE"


def control_tokens(data: bytes) -> list[str]:
    """The special tokens of a `tokenizer.json`."""
    added = msgspec.json.decode(data, type=dict[str, Any]).get("added_tokens", [])
    return [token["content"] for token in added if token.get("special")]


def proof_texts(data: bytes) -> list[str]:
    """What a language model's tokenizer is asked: the texts of every proof, among control tokens too."""
    return [*TEXTS, *(f"{c}user {TEXTS[0]}{c}\n" for c in control_tokens(data))]
