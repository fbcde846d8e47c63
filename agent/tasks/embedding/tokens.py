"""Texts as the token ids that an encoder was trained on."""

import os
from collections.abc import Sequence
from typing import Any

from agent.errors import BadModel, BadPayload, EngineMissing

MAX_TEXT = 100_000  # characters of one text


class Tokenizer:
    """A model's own `tokenizer.json`. Safe to call from several threads.

    Args:
        data: the verified bytes of the file.
        max_tokens: what is longer is cut there; special tokens are counted.

    Raises:
        BadModel: the file is no tokenizer.
        EngineMissing: the library is not installed.
    """

    def __init__(self, data: bytes, max_tokens: int) -> None:
        self._tokenizer = _loaded(data)
        try:
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(max_tokens)
        except Exception as error:  # noqa: BLE001 (it raises nothing narrower)
            raise BadModel(f"the tokenizer refuses max_tokens: {error}") from None
        self._max_tokens = max_tokens
        self._size = self._tokenizer.get_vocab_size()

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, with the special tokens that the model expects.

        Raises:
            BadPayload: a text is too long, or is no Unicode text.
        """
        for number, text in enumerate(texts):
            if len(text) > MAX_TEXT:
                message = f"the text has {len(text)} characters, {MAX_TEXT} are allowed"
                raise BadPayload(message, where=f"input[{number}]")
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def checked(self, ids: Sequence[int], where: str) -> list[int]:
        """Ids that a caller made itself, cut at the limit. Raises BadPayload: there is no such id."""
        if not all(0 <= token < self._size for token in ids):
            raise BadPayload(f"token ids are from 0 to {self._size - 1}", where=where)
        return list(ids[: self._max_tokens])


def _loaded(data: bytes) -> Any:
    # Requests run beside each other already; a pool of threads in each of them would only fight.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import tokenizers
    except ImportError as error:
        hint = "Install it: pip install 'edge-agent[text]'"
        raise EngineMissing("the library tokenizers is not installed", hint=hint) from error
    try:
        return tokenizers.Tokenizer.from_buffer(data)
    except Exception as error:  # noqa: BLE001 (it raises nothing narrower)
        message = f"not a tokenizer: {str(error)[:200]}"
        raise BadModel(message, where="tokenizer.json") from None
