"""A tokenizer is part of the model, and is proved.

Two libraries read the packaged files: `tokenizers`, which the model was trained with, and the
runtime's own. They must give the same ids on a text with all that goes wrong: scripts, emoji, control
tokens, code, digits, white space.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from agent.errors import BadModel

#: Everything that tokenizers have been seen to disagree about. Control tokens are put in beside it.
PROOF = (
    "Hello, World! It's 7 o'clock; they'll have 1234567890 items (42.5%).\n"
    "Привет, мир. Γειά σου Κόσμε. שלום עולם. مرحبا بالعالم. नमस्ते दुनिया. 你好,世界。こんにちは世界。"
    "안녕하세요 세계. Zażółć gęślą jaźń. naïve café — “quoted” …\n"
    "🎉 👩‍👩‍👧‍👦 🇩🇪 👍🏽 ∑∞≈≠ ½ ™\n"
    "def f(x):\n\tif x != 0:\n        return {'a': [x ** 2, 0x1F]}  # ok\n\n\n"
    "  two  spaces   three \t tab\r\nCRLF \u00a0nbsp \u200bzero-width e\u0301 combining\n"
    "UPPER lower MiXeD snake_case kebab-case http://example.com/a?b=c&d=e#f"
)

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
    fields["pre_tokenizer"] = _spelt_out(fields["pre_tokenizer"], digits=pre in _SPLIT_DIGITS)
    if begins is False:
        fields["post_processor"] = {**_BYTE_LEVEL, "trim_offsets": False}
    return msgspec.json.encode(fields)


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


def prove(
    expected: Callable[[str], Sequence[int]],
    actual: Callable[[str], Sequence[int]],
    controls: Sequence[str],
) -> int:
    """Compare two tokenizers on the proof's lines, with and without control tokens.

    Args:
        expected: ids by the library that the model was trained with.
        actual: ids by the runtime.
        controls: texts of control tokens.

    Returns:
        Ids compared.

    Raises:
        BadModel: they differ; the text on which they do is named.
    """
    lines = [line for line in PROOF.split("\n") if line]
    texts = [*lines, PROOF, *(f"{c}user {lines[0]}{c}\n" for c in controls)]
    compared = 0
    for text in texts:
        one, other = list(expected(text)), list(actual(text))
        if one != other:
            raise BadModel(
                f"the runtime reads {_shown(text)} as {_ids(other)}, "
                f"the model was trained with {_ids(one)}",
                where="tokenizer.json",
                hint="The tokenizer's files do not say what it does; save them again from its source",
            )
        compared += len(one)
    return compared


def _shown(text: str) -> str:
    return repr(text if len(text) < 60 else f"{text[:57]}...")


def _ids(ids: Sequence[int]) -> str:
    shown = ", ".join(map(str, ids[:8]))
    return f"[{shown}{', ...' if len(ids) > 8 else ''}]"
