"""Signed commands: what is not exactly what the operator signed is refused, one attack a test."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import AgentError, BadConfig, BadPayload, Expired, Refused, TooLarge, Unsigned
from agent.sync.orders import (
    MAX_BYTES,
    MAX_LIFE_S,
    Claims,
    CommandSettings,
    encode_part,
    open_order,
    parse_keys,
    signing_input,
)
from tools.fleet.orders import public_line, sign

NOW = 1.8e9
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
KEYS = parse_keys((public_line(KEY),))
CLAIMS = Claims("dev-1", "ping", "c-1", NOW - 10, NOW + 60, {"a": 1})


def opened(token: bytes, device: str = "dev-1", now: float = NOW):
    return open_order(token, KEYS, device, now)


def part(value: object) -> bytes:
    return encode_part(json.dumps(value).encode())


def signed_with(header: dict, claims: dict | None = None) -> bytes:
    """A token with any header, and a signature that fits it."""
    body = {"aud": "dev-1", "cmd": "ping", "jti": "c-1", "iat": NOW, "exp": NOW + 60}
    text = part(header) + b"." + part(body if claims is None else claims)
    return text + b"." + encode_part(KEY.sign(text))


HEADER = json.loads(
    base64.urlsafe_b64decode(signing_input(CLAIMS, next(iter(KEYS))).split(b".")[0] + b"==")
)


def test_a_signed_command_is_what_was_signed():
    order = opened(sign(KEY, CLAIMS))
    assert order.claims == CLAIMS
    assert order.key in KEYS


def test_a_token_of_any_library_of_the_standard_is_taken():
    """PyJWT and others write spaces and another order of fields; what counts is the signature."""
    assert opened(signed_with(HEADER)).claims.cmd == "ping"


def test_a_command_without_a_signature_is_refused():
    token = sign(KEY, CLAIMS)
    with pytest.raises(BadPayload):
        opened(token.rsplit(b".", 1)[0])
    with pytest.raises(BadPayload):
        opened(token.rsplit(b".", 1)[0] + b".")


@pytest.mark.parametrize("algorithm", ["none", "HS256", "ES256", "eddsa", ""])
def test_another_algorithm_is_refused_whatever_its_signature(algorithm):
    with pytest.raises(Unsigned, match="EdDSA"):
        opened(signed_with({**HEADER, "alg": algorithm}))


def test_a_command_by_an_unknown_key_is_refused():
    with pytest.raises(Unsigned, match="does not know"):
        opened(sign(OTHER, CLAIMS))


def test_a_known_keys_name_over_another_keys_signature_is_refused():
    signed = signing_input(CLAIMS, next(iter(KEYS)))
    with pytest.raises(Unsigned, match="does not match"):
        opened(signed + b"." + encode_part(OTHER.sign(signed)))


def test_an_extension_that_must_be_understood_is_refused():
    with pytest.raises(BadPayload, match="crit"):
        opened(signed_with({**HEADER, "crit": ["b64"], "b64": False}))


def test_a_token_of_another_use_is_refused():
    with pytest.raises(Unsigned, match="type"):
        opened(signed_with({**HEADER, "typ": "JWT"}))


def test_a_command_for_another_device_is_refused():
    with pytest.raises(Refused, match="another device"):
        opened(sign(KEY, CLAIMS), device="dev-2")


def test_an_expired_command_is_refused_at_its_very_second():
    with pytest.raises(Expired):
        opened(sign(KEY, CLAIMS), now=CLAIMS.exp)


@pytest.mark.parametrize("life", [0.0, -1.0, MAX_LIFE_S + 1, float("inf")])
def test_a_command_that_would_live_for_ever_or_not_at_all_is_refused(life):
    claims = {"aud": "dev-1", "cmd": "ping", "jti": "c", "iat": NOW, "exp": NOW + life}
    with pytest.raises((Refused, BadPayload)):
        opened(signed_with(HEADER, claims))


def test_changed_claims_are_refused():
    head, _, tail = sign(KEY, CLAIMS).split(b".")
    other = signing_input(Claims("dev-1", "relearn", "c-1", NOW, NOW + 60), "k").split(b".")[1]
    with pytest.raises(Unsigned):
        opened(b".".join((head, other, tail)))


@pytest.mark.parametrize(
    "claims",
    [[], {}, {"aud": "dev-1"}, {"aud": 1, "cmd": "ping", "jti": "c", "iat": 1, "exp": 2},
     {"aud": "dev-1", "cmd": "Ping!", "jti": "c", "iat": 1, "exp": 2},
     {"aud": "dev-1", "cmd": "ping", "jti": "a/b", "iat": 1, "exp": 2},
     {"aud": "dev-1", "cmd": "ping", "jti": "c", "iat": 1, "exp": 2, "more": 1}],
)  # fmt: skip
def test_signed_claims_that_are_no_command_are_refused(claims):
    with pytest.raises(BadPayload):
        opened(signed_with(HEADER, claims))


def test_a_command_over_its_bound_is_refused_unread():
    with pytest.raises(TooLarge):
        opened(b"x" * (MAX_BYTES + 1))


def test_the_same_signature_written_otherwise_is_refused():
    """Padding, or bits that no decoder looks at: the signature would still be good."""
    token = sign(KEY, CLAIMS)
    last = token[-1:]
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = alphabet[alphabet.index(last) ^ 1 : (alphabet.index(last) ^ 1) + 1]
    for other in (token + b"=", token[:-1] + twin, token + b"\n"):
        with pytest.raises((BadPayload, Unsigned)):
            opened(other)


@given(st.integers(0, 2000), st.integers(0, 255))
def test_no_changed_byte_is_overlooked(place, byte):
    token = bytearray(sign(KEY, CLAIMS))
    place %= len(token)
    if token[place] != byte:
        token[place] = byte
        with pytest.raises(AgentError):
            opened(bytes(token))


@given(st.binary(max_size=400))
def test_rubbish_is_refused(token):
    with pytest.raises(AgentError):
        opened(token)


@pytest.mark.parametrize(
    "key", ["", "ed25519:", "ed25519:AAAA", "rsa:" + "A" * 43, "A" * 43, "ed25519:!"]
)
def test_a_key_that_is_none_is_refused_in_the_configuration(key):
    with pytest.raises(BadConfig, match="public key"):
        CommandSettings(keys=(key,))
