"""SHA-256 of bytes and of files on their way in."""

import hashlib
import re

SHA256_HEX = re.compile(r"[0-9a-f]{64}")


def sha256_hex(data: bytes | memoryview) -> str:
    """The SHA-256 digest, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
