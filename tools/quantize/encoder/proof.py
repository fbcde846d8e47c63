"""The proof that the packaged tokenizer reads texts as transformers' does."""

from pathlib import Path

from agent.errors import BadModel, EngineMissing
from agent.tasks.embedding.encoder import TOKENIZER
from agent.tasks.embedding.tokens import Tokenizer

TEXTS = (
    "The pump in the cellar is leaking.",
    "  spaces   and\ttabs\nand lines  ",
    "Größe, façade, naïve, Ångström, İstanbul",
    "Где находится насос?",
    "泵在哪里？ 圧力計は壊れています。",
    "أين المضخة؟ איפה המשאבה",
    "पंप कहाँ है? ปั๊มอยู่ที่ไหน",
    "펌프가 어디에 있습니까",
    "👩‍🔧🔥 ok 👍🏽 🇵🇹",
    "[CLS] [SEP] [MASK] [PAD] [UNK] <s> </s> <pad> <|endoftext|>",
    "def f(x: int) -> str:\n    return f'{x:>08.3f}'  # π ≈ 3.14",
    "https://example.org/a?b=c&d=%20#e user@example.org 1,234.56 € ½ ﬁ",
    "\u0000\u200b\ufeff\u00ad\ufffd control",
    "e\u0301 and \u00e9, Å and A\u030a",
    "a" * 300,
    "word " * 600,
    "",
)


def check(folder: Path, max_tokens: int) -> bytes:
    """The tokenizer of a folder, when it reads as transformers' own.

    Raises:
        BadModel: there is none, or it reads a text differently; says which.
        EngineMissing: transformers is not installed.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        hint = "Save it with transformers: AutoTokenizer.from_pretrained(…).save_pretrained(…)"
        raise BadModel("the folder holds no tokenizer.json", where=str(folder), hint=hint)
    data = path.read_bytes()
    packaged = Tokenizer(data, max_tokens).ids(TEXTS)
    for text, ids, wanted in zip(TEXTS, packaged, _reference(folder, max_tokens), strict=True):
        if ids != wanted:
            message = f"the tokenizer reads {text[:40]!r} unlike transformers"
            raise BadModel(message, where=str(path))
    return data


def _reference(folder: Path, max_tokens: int) -> list[list[int]]:
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        hint = "Run: pip install 'edge-agent[workstation]'"
        raise EngineMissing("transformers is not installed", hint=hint) from error
    own = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, use_fast=False)
    read = own(list(TEXTS), truncation=True, max_length=max_tokens, padding=False)
    return [list(map(int, ids)) for ids in read["input_ids"]]
