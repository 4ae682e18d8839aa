"""How hashes are written: ``sha256-HEX`` or ``blake3-HEX``, the algorithm in front of the digits.

Also read: base64 digits behind the same prefix, as web pages write the integrity of what they load
(W3C Subresource Integrity). Everything is normalised to lower-case hex, so that two hashes are
equal exactly when their texts are.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Annotated, Final, Protocol

import blake3
from pydantic import AfterValidator

_HEX: Final = re.compile(r"[0-9a-f]{64}")
_BYTES: Final = 32
"""Of a digest, in both algorithms."""


class Hasher(Protocol):
    """What takes a digest piece by piece."""

    def update(self, data: bytes | memoryview, /) -> object:
        """Take in more bytes."""
        ...

    def hexdigest(self) -> str:
        """Of everything so far, lower-case hex."""
        ...


ALGORITHMS: Final = ("sha256", "blake3")


def hasher_of(algorithm: str) -> Hasher:
    """A new hasher. ``algorithm``: one of `ALGORITHMS`."""
    if algorithm == "blake3":
        return blake3.blake3()
    return hashlib.sha256()


def normal_digest(text: str) -> str:
    """``text`` as ``ALGORITHM-HEX``; ``ValueError`` says what it should look like."""
    algorithm, _, digits = text.partition("-")
    if algorithm not in ALGORITHMS or not digits:
        raise ValueError("must begin with 'sha256-' or 'blake3-', then the digest")
    if _HEX.fullmatch(digits.lower()):
        return f"{algorithm}-{digits.lower()}"
    try:
        raw = base64.b64decode(digits, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _BYTES:
        raise ValueError("must have 64 hex digits (or the 44 of base64) behind the prefix")
    return f"{algorithm}-{raw.hex()}"


def normal_sha256(text: str) -> str:
    """As `normal_digest`, and it must be sha256."""
    if not text.startswith("sha256-"):
        raise ValueError("must be sha256: 'sha256-' and 64 hex digits")
    return normal_digest(text)


Digest = Annotated[str, AfterValidator(normal_digest)]
"""A hash in a model: any of `ALGORITHMS`, normalised."""
Sha256 = Annotated[str, AfterValidator(normal_sha256)]
"""A sha256 in a model, normalised: ``sha256-HEX``."""


def algorithm_of(digest: str) -> str:
    """Of a normalised digest."""
    return digest.partition("-")[0]


def digits_of(digest: str) -> str:
    """Of a normalised digest: what stands behind the algorithm."""
    return digest.partition("-")[2]


def digest_of(data: bytes | memoryview, algorithm: str) -> str:
    """The normalised digest of bytes in memory."""
    hasher = hasher_of(algorithm)
    hasher.update(data)
    return f"{algorithm}-{hasher.hexdigest()}"
