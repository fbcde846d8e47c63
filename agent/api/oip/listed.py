"""Requests that are all JSON, met again with other elements. Pure."""

from collections.abc import Callable
from typing import NamedTuple

from msgspec import Raw

from agent.api.oip.messages import decode_request
from agent.api.oip.request import Prepared, json_reader
from agent.api.oip.signature import Signature
from agent.errors import BadTensor
from agent.types import Array

MAX_LISTED = 64 * 1024  # bytes of a request that may be met again


class Listed(NamedTuple):
    """A request that is all JSON, with the elements of its one input cut out.

    A client in a loop sends the same text around other elements. Where a JSON value stood, another
    one makes the same request with other elements, so only the elements are read again.

    Attributes:
        before: text up to the elements.
        after: text behind them.
        read: makes the input of the elements' text.
        name: of the input.
        request: what the text says apart from the elements.
    """

    before: bytes
    after: bytes
    read: Callable[[bytes], Array]
    name: str
    request: Prepared

    def again(self, body: bytes) -> Prepared | None:
        """The request that a body is; None when it must be read from the start."""
        if not (body.startswith(self.before) and body.endswith(self.after)):
            return None
        try:
            array = self.read(body[len(self.before) : len(body) - len(self.after)])
        except BadTensor:  # and perhaps not only the elements
            return None
        known = self.request
        return Prepared(
            "",
            known.wanted,
            {self.name: array},
            [],
            len(body),
            templates=known.templates,
            priority=known.priority,
            timeout_s=known.timeout_s,
            names=known.names,
            flat=known.flat,
        )

    @classmethod
    def of(cls, body: bytes, signature: Signature, prepared: Prepared) -> "Listed | None":
        """What to remember of a request that was understood; None where its elements move.

        Args:
            body: the request.
            signature: of the model that is asked.
            prepared: what was understood.
        """
        if len(prepared.ready) != 1 or prepared.id or not len(body) == prepared.size <= MAX_LISTED:
            return None
        (tensor,) = decode_request(body).inputs
        assert isinstance(tensor.data, Raw)
        elements = bytes(tensor.data)
        if body.count(elements) != 1:  # where they are could be mistaken
            return None
        before, _, after = body.partition(elements)
        spec = signature.input(tensor.name)
        read = json_reader(tensor, spec, tuple(tensor.shape), nan=signature.nan)
        return cls(before, after, read, tensor.name, prepared)
