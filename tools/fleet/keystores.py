"""Signing keys that never leave where they are: hardware tokens (PKCS #11) and cloud key stores.

What is kept of such a key is its address, which is no secret, in a file named like a key file but
``targets-1f3a9c04.uri``. Signing and the addresses are securesystemslib's:

    hsm:[KEYID][?label=TOKEN]                    a token; its library by PYKCS11LIB
    awskms:KEYID                                 AWS KMS
    gcpkms:projects/…/cryptoKeyVersions/1        Google Cloud KMS
    azurekms://VAULT.vault.azure.net/keys/NAME   Azure Key Vault
    hv:NAME                                      HashiCorp Vault, transit engine
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import parse_qsl, urlsplit

from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import (
    AWSSigner,
    AzureSigner,
    GCPSigner,
    HSMSigner,
    Key,
    Signer,
    SSlibKey,
    VaultSigner,
)

from agent.errors import AgentError, BadKey

Pin = Callable[[str], str]

#: What to install for each kind of address.
_PACKAGES: Mapping[str, str] = {
    "hsm": "edge-agent[pkcs11]",
    "awskms": "securesystemslib[awskms]",
    "gcpkms": "securesystemslib[gcpkms]",
    "azurekms": "securesystemslib[azurekms]",
    "hv": "securesystemslib[vault]",
}


def is_address(text: str) -> bool:
    """Whether a text is the address of a key and not the name of a scheme."""
    return ":" in text


def import_key(address: str, pin: Pin) -> tuple[str, SSlibKey]:
    """Ask a key store for a key.

    Args:
        address: as in the table above.
        pin: of a token; asked for only where it shows no key without.

    Returns:
        The address to sign with, completed by what was found (a token's label, a key's version),
        and the public key.

    Raises:
        BadKey: no such store or key, or the library that speaks with it is not installed.
    """
    scheme = urlsplit(address).scheme
    if scheme not in _PACKAGES:
        known = ", ".join(f"{name}:" for name in _PACKAGES)
        raise BadKey("is not the address of a key", where=address, hint=f"Known: {known}")
    with _translated(address):
        return _import(scheme, address, pin)


def open_signer(address: str, key: Key, pin: Pin) -> Signer:
    """The signer behind an address; it signs with every call in the store itself.

    Raises:
        BadKey: the address is none, or its library is not installed.
    """
    with _translated(address):
        return Signer.from_priv_key_uri(address, key, pin)


def _import(scheme: str, address: str, pin: Pin) -> tuple[str, SSlibKey]:
    name = address.partition(":")[2]
    if scheme == "hsm":
        parts = urlsplit(address)
        label = dict(parse_qsl(parts.query)).get("label")
        return HSMSigner.import_(int(parts.path) if parts.path else None, label, pin)
    if scheme == "awskms":
        return AWSSigner.import_(name)
    if scheme == "gcpkms":
        return GCPSigner.import_(name)
    if scheme == "hv":
        return VaultSigner.import_(name)
    vault, key = _azure_names(address)
    return AzureSigner.import_(vault, key)


def _azure_names(address: str) -> tuple[str, str]:
    parts = urlsplit(address)
    words = parts.path.strip("/").split("/")
    if not parts.hostname or words[0] != "keys" or len(words) < 2:
        raise ValueError("expected azurekms://VAULT.vault.azure.net/keys/NAME")
    return parts.hostname.partition(".")[0], words[1]


@contextmanager
def _translated(address: str) -> Iterator[None]:
    """Whatever a store's library raises; there are many, and each has exceptions of its own."""
    try:
        yield
    except AgentError:
        raise
    except UnsupportedLibraryError as error:
        hint = f"Run: pip install '{_PACKAGES[urlsplit(address).scheme]}'"
        raise BadKey(
            "the library for this kind of key is not installed", where=address, hint=hint
        ) from error
    except Exception as error:
        hint = "Name the token's library: PYKCS11LIB=…" if "PYKCS11LIB" in str(error) else ""
        raise BadKey(
            f"the key cannot be used: {describe(error)}", where=address, hint=hint
        ) from error


def describe(error: BaseException) -> str:
    """An exception in one line; those of PKCS #11 carry nothing but their class."""
    text = str(error).strip().partition("\n")[0]
    return text.rstrip(".")[:300] or type(error).__name__
