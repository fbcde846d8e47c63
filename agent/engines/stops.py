"""Texts that end an answer, found while it is being written. Pure."""

from collections.abc import Sequence


class Stops:
    """Lets an answer's text through up to the first of some texts.

    What could be the beginning of one of them is held back until it is known.

    Attributes:
        hit: one of them has come; what follows is nobody's.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.hit = False
        self._texts = tuple(filter(None, texts))
        self._held = ""

    def feed(self, text: str) -> str:
        """The text that may be shown, now that this has come."""
        if not self._texts:
            return text
        text = self._held + text
        found = [place for place in map(text.find, self._texts) if place >= 0]
        if found:
            self.hit, self._held = True, ""
            return text[: min(found)]
        shown = len(text) - max(_begun(text, stop) for stop in self._texts)
        self._held = text[shown:]
        return text[:shown]

    def rest(self) -> str:
        """What was held back, now that nothing more will come."""
        held, self._held = self._held, ""
        return held


def _begun(text: str, stop: str) -> int:
    """How many of the text's last characters are the stop's first ones."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
