"""A tokenizer with fewer word pieces: what is not kept is read as shorter pieces, or as unknown.

BERT's vocabulary stands in the order of how common its pieces are, so that the first of them are the
ones that people use.
"""

import json
from collections.abc import Collection
from typing import Any

CONTROL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def kept(tokenizer: bytes, used: Collection[int], count: int) -> list[int]:
    """Ids of the pieces to keep, in their order: the used ones, single letters, and the most common.

    Args:
        tokenizer: a `tokenizer.json` whose model is WordPiece.
        used: ids that must stay.
        count: how many to keep.
    """
    pieces = {number: piece for piece, number in _pieces(tokenizer).items()}
    must = {n for n, piece in pieces.items() if n in used or piece in CONTROL or _letter(piece)}
    others = (n for n in sorted(pieces) if n not in must and _ordinary(pieces[n]))
    return sorted([*must, *(n for n, _ in zip(others, range(count - len(must)), strict=False))])


def reduced(tokenizer: bytes, ids: list[int]) -> bytes:
    """The tokenizer with these pieces only; the new id of each is its place among them."""
    made: dict[str, Any] = json.loads(tokenizer)
    new = {number: place for place, number in enumerate(ids)}
    pieces = made["model"]["vocab"]
    made["model"]["vocab"] = {p: new[n] for p, n in pieces.items() if n in new}
    made["added_tokens"] = [
        {**token, "id": new[token["id"]]} for token in made["added_tokens"] if token["id"] in new
    ]
    for token in made["post_processor"]["special_tokens"].values():
        token["ids"] = [new[number] for number in token["ids"]]
    made["padding"] = made["truncation"] = None  # the manifest says how long a text may be
    return json.dumps(made, ensure_ascii=False, separators=(",", ":")).encode()


def words(tokenizer: bytes) -> list[str]:
    """Whole words of the vocabulary, in alphabetical order."""
    return sorted(p for p in _pieces(tokenizer) if p.isascii() and p.isalpha() and len(p) > 2)


def _pieces(tokenizer: bytes) -> dict[str, int]:
    found: dict[str, int] = json.loads(tokenizer)["model"]["vocab"]
    return found


def _letter(piece: str) -> bool:
    return piece.isascii() and len(piece.removeprefix("##")) == 1


def _ordinary(piece: str) -> bool:
    return piece.isascii() and not piece.startswith("[")
