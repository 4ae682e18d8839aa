"""Pure: python-tuf's exceptions as noyau's errors, each with what to do."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)

from protocol.errors import AssetCorrupt, AssetError, AssetUnavailable, Untrusted

_STAYS: Final = "No update is taken; what was trusted before stays in use."

_REASONS: Final = (
    (ExpiredMetadataError, "expired"),
    (BadVersionNumberError, "version"),
    (UnsignedMetadataError, "signature"),
    (LengthOrHashMismatchError, "hash"),
    (RepositoryError, "malformed"),
)
"""The first that fits. A ``RepositoryError`` of no more special kind is metadata that cannot be
read, is of another role, or lacks what it must name."""

_REMEDIES: Final = {
    "expired": "If this machine's clock is right, the publisher has to renew it; if the publisher "
    "did, somebody holds the news back: use another network or mirror.",
    "version": "It is older than what was seen here, or mixed with another state: a mirror that is "
    "behind, or somebody who wants to bring back an old state. Use another mirror.",
    "signature": "Too few of the keys that count have signed it. If the publisher changed keys "
    "without publishing that, ask for a new root file by another way.",
    "hash": "It is not the file that was signed: a mirror that is damaged or being changed, or "
    "somebody's doing. Try again later or use another mirror.",
    "length": "It is longer than it may be, and was cut off.",
    "malformed": "It is no metadata of this kind. A network that wants a login first answers with "
    "its own page, too; else check the repository's address.",
}


Refusable = RepositoryError | DownloadError | AssetCorrupt


def refused(error: Refusable, url: str, now: datetime) -> AssetError:
    """The error for a refresh that ended with ``error``; ``now`` is what dates were held against.

    `Untrusted` where something came that does not hold, `AssetUnavailable` where nothing came.
    """
    if isinstance(error, DownloadHTTPError):
        return AssetUnavailable(
            f"the repository at {url} is not complete: {error}. Check the address; if it is right, "
            "the repository is being changed, or was not copied whole"
        )
    if isinstance(error, DownloadLengthMismatchError):
        return _untrusted("length", str(error), url)
    if isinstance(error, DownloadError):
        return AssetUnavailable(f"the repository at {url} cannot be read: {error}")
    if isinstance(error, AssetCorrupt):
        return _untrusted("malformed", error.message, url)
    reason = next(reason for kind, reason in _REASONS if isinstance(error, kind))
    said = str(error) or type(error).__name__
    if reason == "expired":
        said = f"{said}, by this machine's clock ({now:%Y-%m-%d %H:%M} UTC)"
    return _untrusted(reason, said, url)


def _untrusted(reason: str, said: str, url: str) -> Untrusted:
    return Untrusted(
        f"what the repository at {url} sent cannot be trusted: {said.rstrip('.')}. "
        f"{_REMEDIES[reason]} {_STAYS}",
        reason=reason,
        url=url,
    )
