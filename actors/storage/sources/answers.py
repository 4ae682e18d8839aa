"""What a web server's answer is worth, judged by its head. Pure.

    status ──► other than 200 and 206: the error that it is
           ──► Content-Encoding: none may be, the bytes must be those of the file
           ──► Content-Range: exactly what was asked for
           ──► Content-Length: exactly as much

Names of fields and statuses: RFC 9110.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from actors.storage.sources.interface import NoRanges, NotThere
from protocol.errors import AssetCorrupt, AssetError, AssetUnavailable

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MOST_RETRY_AFTER_S: Final = 3600.0
"""What is passed on of a longer Retry-After: who tries again decides with it, and a server must not
be able to name a year."""
_LATER: Final = frozenset({408, 421, 425, 429})
"""Of the 4xx: those that speak of the moment, not of the file."""
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")


@dataclass(frozen=True)
class Wanted:
    """What was asked for, as far as an answer can be held against it."""

    where: str
    """The URL, as people are shown it."""
    most: int
    """More bytes than these are never taken."""
    total: int | None = None
    """Bytes of the whole file, where they are known."""
    stretch: tuple[int, int] | None = None
    """Offset and bytes; None: all of it."""


@dataclass(frozen=True)
class Head:
    """Of an answer that may be read: how much of it there is."""

    size: int | None
    """Bytes to come; None: the server does not say, and neither does who asks."""
    version: Mapping[str, str]
    """What the server says of the file's version, by the name of each field."""


def stretch_of(offset: int | None, size: int | None, total: int | None) -> tuple[int, int] | None:
    """The part that is asked for, as offset and bytes; None where that is all of it."""
    if offset is None and size is None:
        return None
    if offset is None or size is None or offset < 0 or size < 1:
        raise ValueError(f"no stretch of a file: {size} bytes at {offset}")
    return None if (offset, size) == (0, total) else (offset, size)


def judge(status: int, headers: Mapping[str, str], wanted: Wanted, now: datetime) -> Head:
    """The head of an answer that can be what is wanted.

    Args:
        headers: a mapping that finds names in lower case.
        now: for a Retry-After that names a date.

    Raises ``AssetUnavailable``, ``NotThere``, ``NoRanges`` or ``AssetCorrupt`` for any other.
    """
    if status not in (200, 206):
        raise refusal(status, headers, wanted, now)
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise AssetCorrupt(
            f"{wanted.where} sends the file encoded ({encoding:.40}), which was not asked for: its "
            "bytes would not be the file's"
        )
    length = _length(headers, wanted)
    size, total = _whole(status, length, wanted), length
    if wanted.stretch is not None:
        size, total = _stretch(status, headers, length, wanted, wanted.stretch)
    return Head(size, _version(headers, total))


def refusal(
    status: int, headers: Mapping[str, str], wanted: Wanted, now: datetime
) -> AssetUnavailable:
    """The error that a status is which brings no file."""
    if status in _LATER or status >= 500:
        after_s = retry_after_s(headers.get("retry-after", ""), now)
        details = {} if after_s is None else {"retry_after_s": after_s}
        later = "" if after_s is None else f"; it asks to come back in {after_s:g} s"
        return AssetUnavailable(
            f"{wanted.where} answers with status {status}{later}", status=status, **details
        )
    if status == 407:
        return AssetUnavailable(
            f"the proxy on the way to {wanted.where} wants a name and a password: write them into "
            "HTTPS_PROXY or HTTP_PROXY", status=status,
        )  # fmt: skip
    if 400 <= status < 500:
        return NotThere(
            f"{wanted.where} cannot be had: {_REASONS.get(status, f'status {status}')}",
            status=status,
        )
    return AssetUnavailable(
        f"{wanted.where} answers with status {status}, which brings no file", status=status
    )


_REASONS: Final = {
    401: "the server wants to know who asks (status 401)",
    403: "the server refuses it (status 403)",
    404: "the server has no such file (status 404)",
    410: "the server has it no longer (status 410)",
    416: "the file there is shorter than the manifest says (status 416)",
}


def retry_after_s(text: str, now: datetime) -> float | None:
    """Seconds that a Retry-After asks for, at most `MOST_RETRY_AFTER_S`; None where it is none."""
    text = text.strip()
    if re.fullmatch(r"[0-9]{1,19}", text):
        return min(float(text), MOST_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return min(max(0.0, (date - now).total_seconds()), MOST_RETRY_AFTER_S)


def check_end(done: int, head: Head, wanted: Wanted) -> None:
    """After the last byte: raise ``AssetUnavailable`` when some are missing."""
    if head.size is not None and done < head.size:
        raise cut(done, head.size, wanted)


def cut(done: int, size: int | None, wanted: Wanted) -> AssetUnavailable:
    """The error for an answer that ended too early."""
    promised = "" if size is None else f" of {size}"
    return AssetUnavailable(f"{wanted.where} was cut after {done}{promised} bytes")


def too_long(wanted: Wanted, allowed: int) -> AssetCorrupt:
    """The error for an answer with more bytes than it may have."""
    return AssetCorrupt(f"{wanted.where} sends more than the {allowed} bytes that were asked for")


def _length(headers: Mapping[str, str], wanted: Wanted) -> int | None:
    text = headers.get("content-length", "").strip()
    # With both, the transfer's coding counts: RFC 9112, 6.3.
    if not text or "transfer-encoding" in headers:
        return None
    if not re.fullmatch(r"[0-9]{1,19}", text):
        raise AssetCorrupt(f"{wanted.where} has a Content-Length that is none: {text!r:.60}")
    return int(text)


def _whole(status: int, length: int | None, wanted: Wanted) -> int | None:
    """Bytes to come of a whole file."""
    if wanted.stretch is not None:
        return None
    if status == 206:
        raise AssetCorrupt(f"{wanted.where} sends a part (status 206), and all was asked for")
    if length is not None and wanted.total is not None and length != wanted.total:
        raise AssetCorrupt(
            f"{wanted.where} has {length} bytes, and the manifest says {wanted.total}"
        )
    if length is not None and length > wanted.most:
        raise too_long(wanted, wanted.most)
    return wanted.total if wanted.total is not None else length


def _stretch(
    status: int, headers: Mapping[str, str], length: int | None, wanted: Wanted,
    stretch: tuple[int, int],
) -> tuple[int, int | None]:  # fmt: skip
    """Bytes to come of a part, and how many the whole has."""
    offset, size = stretch
    if status == 200:
        raise NoRanges(f"{wanted.where} does not hand over parts: it answers with the whole")
    if headers.get("content-type", "").strip().lower().startswith("multipart/"):
        raise AssetCorrupt(f"{wanted.where} sends several parts, and one was asked for")
    text = headers.get("content-range", "").strip()
    found = _CONTENT_RANGE.fullmatch(text)
    if found is None:
        raise AssetCorrupt(f"{wanted.where} has a Content-Range that is none: {text!r:.60}")
    first, last = int(found[1]), int(found[2])
    if (first, last) != (offset, offset + size - 1):
        raise AssetCorrupt(
            f"{wanted.where} sends bytes {first} to {last}, and {offset} to {offset + size - 1} "
            "were asked for"
        )
    total = None if found[3] == "*" else int(found[3])
    if total is not None and (total <= last or wanted.total not in (None, total)):
        raise AssetCorrupt(
            f"{wanted.where} has {total} bytes, and the manifest says {wanted.total}"
        )
    if length is not None and length > size:
        raise too_long(wanted, size)
    return size, total


def _version(headers: Mapping[str, str], total: int | None) -> dict[str, str]:
    said = {
        "ETag": headers.get("etag", "").strip(),
        "Last-Modified": headers.get("last-modified", "").strip(),
        "size": "" if total is None else str(total),
    }
    return {name: value for name, value in said.items() if value}


def changed(wanted: Wanted, name: str) -> AssetError:
    """The error for a file of which another version lies there than when it was begun."""
    return AssetUnavailable(
        f"{wanted.where} changed while it was fetched (its {name} is another one now)", changed=True
    )
