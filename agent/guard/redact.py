"""Personal data in text that leaves the device: replaced by its kind, ``[email]``. Pure.

Card numbers count only with a valid check digit (ISO/IEC 7812-1, annex B) and account numbers with
valid check digits (ISO 13616), so that order numbers and readings stay. Telephone numbers have no
check; what looks like one goes. In doubt more is redacted, not less. The patterns read each character
a bounded number of times, whatever the text.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agent.errors import BadConfig

Kind = Literal["email", "phone", "card", "iban"]

KINDS: tuple[Kind, ...] = ("email", "phone", "card", "iban")

MAX_DEPTH = 32  # of nested objects; what lies deeper is replaced as a whole

_EMAIL = re.compile(r"(?<![\w.%+'-])[\w.%+'-]+@(?:[\w-]+\.)+[^\W\d_]{2,}")
_PHONE = re.compile(
    r"(?<![\w.,])(?!\d\d[-./]\d\d[-./]\d{4})"  # a date is none
    r"(?:\+|00|\(?0(?=[1-9])|\(?[2-9]\d\d\)?[ .-](?=\d{3}[ .-]\d{4}))"
    r"(?:[ ()./-]{0,2}\d){6,14}(?!\d)"
)
_RUN = re.compile(r"[A-Za-z0-9]+(?:[ -][A-Za-z0-9]+)*")  # groups, as long numbers are written
_ACCOUNT = re.compile(r"[A-Za-z]{2}\d{2}[A-Za-z0-9]+")
_CARD_DIGITS = range(13, 20)
_ACCOUNT_LENGTHS = range(15, 35)


@dataclass(frozen=True, slots=True)
class Redaction:
    """What is to be replaced.

    Attributes:
        kinds: kinds of personal data that are looked for in every text.
        fields: names of fields whose values go whole, in any case of letters.
        patterns: further regular expressions; what they match goes.
    """

    kinds: tuple[str, ...] = KINDS
    fields: tuple[str, ...] = ("name", "address", "email", "phone", "password", "token")
    patterns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise BadConfig(f"must be some of {', '.join(KINDS)}, not {kind!r}", where="kinds")
        for pattern in self.patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise BadConfig(
                    f"{pattern!r} is no regular expression: {error}", where="patterns"
                ) from error

    def text(self, text: str) -> str:
        """The text with personal data replaced."""
        for pattern in self.patterns:
            text = re.sub(pattern, "[redacted]", text)
        for kind in ("iban", "email", "card", "phone"):  # those with checks come first
            if kind in self.kinds:
                text = _FINDERS[kind](text)
        return text

    def value(self, value: Any, depth: int = MAX_DEPTH) -> Any:
        """The same for every text, and every named field, of a JSON value; keys are texts too."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(key): self._field(key, item, depth) for key, item in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
            return [self.value(item, depth - 1) for item in value] if depth else "[redacted]"
        return self._number(value)

    def _field(self, key: str, item: Any, depth: int) -> Any:
        if not depth or key.casefold() in {name.casefold() for name in self.fields}:
            return "[redacted]"
        return self.value(item, depth - 1)

    def _number(self, value: Any) -> Any:
        """A card's number may come as a number."""
        if isinstance(value, int) and not isinstance(value, bool):
            text = str(value)
            redacted = self.text(text)
            return value if redacted == text else redacted
        return value


def is_card(digits: str) -> bool:
    """Whether 13 to 19 digits are a payment card's: its first digit, and the check digit (Luhn)."""
    known = len(digits) in _CARD_DIGITS and digits.isdecimal() and digits[0] in "23456"
    if not known:
        return False
    doubled = [int(d) * (1 + at % 2) for at, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def is_iban(code: str) -> bool:
    """Whether the code, without spaces, has the check digits of an account number (mod 97 is 1)."""
    if len(code) not in _ACCOUNT_LENGTHS or not _ACCOUNT.fullmatch(code):
        return False
    turned = code[4:] + code[:4]
    return int("".join(str(int(char, 36)) for char in turned)) % 97 == 1


def _replace(pattern: "re.Pattern[str]", label: str) -> Callable[[str], str]:
    return lambda text: pattern.sub(label, text)


def _grouped(is_one: Callable[[str], bool], longest: int, label: str) -> Callable[[str], str]:
    """Finds numbers written in groups, among other words and numbers."""

    def replace(run: "re.Match[str]") -> str:
        parts = re.split(
            r"([ -])", run[0]
        )  # groups at even places, what separates them at odd ones
        kept: list[str] = []
        at = 0
        while at < len(parts):
            end = _end(parts, at, longest, is_one)
            kept += [label] if end else [parts[at]]
            at = end or at + 1
        return "".join(kept)

    return lambda text: _RUN.sub(replace, text)


def _end(
    parts: Sequence[str], start: int, longest: int, is_one: Callable[[str], bool]
) -> int | None:
    """Where the longest number that begins with this group ends; None when none does."""
    end, code = None, ""
    if start % 2:
        return None
    for at in range(start, len(parts), 2):
        code += parts[at]
        if len(code) > longest:
            break
        if is_one(code):
            end = at + 1
    return end


_FINDERS: Mapping[str, Callable[[str], str]] = {
    "email": _replace(_EMAIL, "[email]"),
    "phone": _replace(_PHONE, "[phone]"),
    "card": _grouped(is_card, _CARD_DIGITS[-1], "[card]"),
    "iban": _grouped(is_iban, _ACCOUNT_LENGTHS[-1], "[iban]"),
}
