"""Commands as the operator signs them: a JSON Web Token with an Ed25519 signature. Pure.

The compact form of RFC 7515 with the algorithm of RFC 8037 and no other: what was signed is what is
parsed, so that nothing depends on how JSON is written. The claims are those of RFC 7519, ``aud`` the
device, ``jti`` the command's id, and of ours ``cmd``, its name, and ``args``.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from agent.errors import BadConfig, BadPayload, Expired, Refused, TooLarge, Unsigned
from agent.ranges import check_range

MAX_BYTES = 64 << 10  # of a signed command
MAX_LIFE_S = 30 * 86_400.0  # between signing and expiry
KEY_DIGITS = 16  # hexadecimal digits of a key's SHA-256 that name it
TYPE = "edge-command+jwt"

_PART = re.compile(rb"[A-Za-z0-9_-]+")


class Claims(msgspec.Struct, forbid_unknown_fields=True):
    """What is signed.

    Attributes:
        aud: the device that it is for.
        cmd: the command's name.
        jti: its id, chosen by the operator and never used twice.
        iat: when it was signed, seconds since the epoch.
        exp: when it is worthless, seconds since the epoch.
        args: of the command.
    """

    aud: str
    cmd: Annotated[str, Meta(pattern=r"^[a-z][a-z-]{0,31}\Z")]
    jti: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
    iat: float
    exp: float
    args: dict[str, Any] = {}


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    """Of the token; a field that we do not know, `crit` among them, is refused (RFC 7515, 4.1.11)."""

    alg: str
    kid: str
    typ: str


@dataclass(frozen=True, slots=True)
class CommandSettings:
    """Who may send commands to this device.

    Attributes:
        keys: public keys whose commands are carried out, as edge-fleet command-key prints them; without
            any, every command is refused.
        per_second: commands looked at in a second, on average; more are dropped unread.
        timeout_s: that a command may take, seconds.
    """

    keys: tuple[str, ...] = ()
    per_second: float = 5.0
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        for key in self.keys:
            parse_key(key)
        check_range("per_second", self.per_second, 0.01, 1000.0)
        check_range("timeout_s", self.timeout_s, 0.1, 3600.0)


@dataclass(frozen=True, slots=True)
class Order:
    """A command whose signature is good.

    Attributes:
        claims: what was signed.
        digest: of the claims' bytes, SHA-256 in hexadecimal.
        key: name of the key that signed it.
    """

    claims: Claims
    digest: str
    key: str


def key_name(public: bytes) -> str:
    """What a key of 32 bytes is called in tokens."""
    return hashlib.sha256(public).hexdigest()[:KEY_DIGITS]


def parse_key(text: str) -> bytes:
    """The 32 bytes of a public key, ``ed25519:`` and base64url.

    Raises:
        BadConfig: the text is none.
    """
    scheme, _, encoded = text.partition(":")
    try:
        public = _decode(encoded.encode())
    except ValueError:
        public = b""
    if scheme != "ed25519" or len(public) != 32:
        raise BadConfig(
            f"{text[:60]!r} is no public key",
            where="keys",
            hint="edge-fleet command-key prints the line to put here",
        )
    return public


def parse_keys(texts: tuple[str, ...]) -> dict[str, bytes]:
    """Public keys by name."""
    return {key_name(key): key for key in map(parse_key, texts)}


def open_order(token: bytes, keys: Mapping[str, bytes], device: str, now: float) -> Order:
    """The command in a token, if it is for this device and its time is not over.

    What is not checked here: that the id is new.

    Args:
        token: as it came.
        keys: public keys of 32 bytes by name.
        device: the device's name.
        now: the latest time that is known to have been, seconds since the epoch.

    Raises:
        TooLarge: over 64 KiB.
        BadPayload: no token, or signed claims that are no command.
        Unsigned: of another algorithm, by an unknown key, or the signature is wrong.
        Refused: for another device, or longer alive than a command may be.
        Expired: its time is over; `where` is its id.
    """
    if len(token) > MAX_BYTES:
        raise TooLarge(f"a command of {len(token)} bytes is over {MAX_BYTES} bytes")
    order = _verified(token, keys)
    claims = order.claims
    if claims.aud != device:
        raise Refused("the command is for another device", where=claims.jti)
    if not 0 < claims.exp - claims.iat <= MAX_LIFE_S:
        raise Refused(f"a command lives at most {MAX_LIFE_S:g} s", where=claims.jti)
    if claims.exp <= now:
        raise Expired("the command's time is over", where=claims.jti)
    return order


def encode_part(data: bytes) -> bytes:
    """Base64url without padding (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def signing_input(claims: Claims, key: str) -> bytes:
    """What the operator's key signs: header and claims."""
    header = {"alg": "EdDSA", "kid": key, "typ": TYPE}
    return b".".join(encode_part(msgspec.json.encode(part)) for part in (header, claims))


def _verified(token: bytes, keys: Mapping[str, bytes]) -> Order:
    """The order in a token with a good signature."""
    try:
        head, body, tail = token.split(b".")
        header = msgspec.json.decode(_decode(head), type=_Header)
        signature, claims = _decode(tail), _decode(body)
    except (ValueError, msgspec.MsgspecError) as error:  # binascii.Error is a ValueError
        raise BadPayload(f"not a signed command: {error}") from None
    if (header.alg, header.typ) != ("EdDSA", TYPE):
        raise Unsigned(f"a command is signed by EdDSA and of type {TYPE}", where=header.alg[:20])
    if header.kid not in keys:
        raise Unsigned("this device does not know the key", where=header.kid[:KEY_DIGITS])
    _check_signature(keys[header.kid], signature, head + b"." + body)
    try:
        order = msgspec.json.decode(claims, type=Claims)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadPayload(f"the signed claims are no command: {error}") from None
    return Order(order, hashlib.sha256(claims).hexdigest(), header.kid)


def _check_signature(public: bytes, signature: bytes, signed: bytes) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, signed)
    except (InvalidSignature, ValueError):
        raise Unsigned("the signature does not match", where=key_name(public)) from None


def _decode(part: bytes) -> bytes:
    """Strictly: one text for one value, so that a token cannot be altered and still be good."""
    if not _PART.fullmatch(part):
        raise binascii.Error("a part is not base64url")
    data = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    if encode_part(data) != part:
        raise binascii.Error("a part is not base64url")
    return data
