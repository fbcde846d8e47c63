"""A tokenizer is part of the model, and is proved.

Two libraries read the same files: the one that the model was trained with, and the one that a device
has. They must give the same ids for texts with all that goes wrong: scripts, emoji, control tokens,
code, digits, white space.
"""

from collections.abc import Callable, Iterable, Sequence

from agent.errors import BadModel

PARAGRAPH = (
    "Hello, World! It's 7 o'clock; they'll have 1234567890 items (42.5%).\n"
    "Привет, мир. Γειά σου Κόσμε. שלום עולם. مرحبا بالعالم. नमस्ते दुनिया. 你好,世界。こんにちは世界。"
    "안녕하세요 세계. Zażółć gęślą jaźń. naïve café — “quoted” …\n"
    "🎉 👩‍👩‍👧‍👦 🇩🇪 👍🏽 ∑∞≈≠ ½ ™\n"
    "def f(x):\n\tif x != 0:\n        return {'a': [x ** 2, 0x1F]}  # ok\n\n\n"
    "  two  spaces   three \t tab\r\nCRLF \u00a0nbsp \u200bzero-width e\u0301 combining\n"
    "UPPER lower MiXeD snake_case kebab-case http://example.com/a?b=c&d=e#f"
)

#: What every tokenizer is asked. Control tokens of the model are put in beside it.
TEXTS = (
    *(line for line in PARAGRAPH.split("\n") if line),
    PARAGRAPH,
    "The pump in the cellar is leaking.",
    "Größe, façade, Ångström, İstanbul",
    "Где находится насос?",
    "泵在哪里？ 圧力計は壊れています。",
    "أين المضخة؟ איפה המשאבה",
    "पंप कहाँ है? ปั๊มอยู่ที่ไหน",
    "펌프가 어디에 있습니까",
    "👩‍🔧🔥 ok 🇵🇹",
    "[CLS] [SEP] [MASK] [PAD] [UNK] <s> </s> <pad> <|endoftext|>",
    "https://example.org/a?b=c&d=%20#e user@example.org 1,234.56 € π ≈ 3.14 ﬁ",
    "\u200b\ufeff\u00ad\ufffd control",
    "e\u0301 and \u00e9, Å and A\u030a",
)

#: What is asked beside it where texts are cut at the window, and no library takes a NUL for the end.
EDGES = ("\u0000 control", "a" * 300, "word " * 600, "")

ITSELF = (
    "the tokenizer could not be proved: transformers has no other one for this model than the "
    "packaged file's own, so that it would be compared with itself"
)


def prove(
    expected: Callable[[str], Sequence[int]],
    actual: Callable[[str], Sequence[int]],
    texts: Iterable[str] = TEXTS,
    where: str = "tokenizer.json",
) -> int:
    """Compare two tokenizers.

    Args:
        expected: ids by the library that the model was trained with.
        actual: ids by the one that a device has.
        texts: what they are asked.
        where: the packaged file.

    Returns:
        Ids compared.

    Raises:
        BadModel: they differ; the first text on which they do is named.
    """
    compared = 0
    for text in texts:
        one, other = list(map(int, expected(text))), list(map(int, actual(text)))
        if one != other:
            at = _first_difference(one, other)
            raise BadModel(
                f"a device reads {_shown(text)} as {_ids(other[at:])} from token {at} on, "
                f"the model was trained with {_ids(one[at:])}",
                where=where,
                hint="The tokenizer's files do not say what it does; save them again from its source",
            )
        compared += len(one)
    return compared


def _first_difference(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _shown(text: str) -> str:
    return repr(text if len(text) < 60 else f"{text[:57]}...")


def _ids(ids: Sequence[int]) -> str:
    shown = ", ".join(map(str, ids[:8]))
    return f"[{shown}{', ...' if len(ids) > 8 else ''}]"
