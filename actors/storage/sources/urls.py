"""Which URLs are asked, and where a server may send us on to. Pure.

    https://host/file ──► 302 ──► the same or a safer scheme? no name and password in it?
                                  no further inside than the first address?  ──► ask there

What a host's name really leads to is judged again when it is connected to: see
`actors.storage.sources.wire`.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from actors.storage.sources.addresses import Depth, depth_of_host
from actors.storage.sources.interface import NotThere

MOST_REDIRECTS: Final = 5
"""Enough for a short link, a hub, its content network and a change to https on the way."""
SETTING: Final = "allow_private_redirects"
MOST_CHARACTERS: Final = 8000
"""Of a URL: RFC 9110, 4.1, wants at least these to be taken by everybody; signed ones have 2000."""
_WRITTEN: Final = re.compile(r"[!-~]+")
_NEVER: Final = re.compile(r'["<>\\^`{|}]')
_USER: Final = re.compile(r"//[^/?#]*@")
_SAFER: Final = {"http": ("http", "https"), "https": ("https",)}


class RedirectRefused(NotThere):
    """A server sends us on to where no server may. Details: ``url``, ``target``, ``setting``."""


def check_web_url(url: str) -> str:
    """``url`` if it is one that can be asked; ``ValueError`` says what is wrong with it."""
    if len(url) > MOST_CHARACTERS:
        raise ValueError(f"a URL has at most {MOST_CHARACTERS} characters, not {len(url)}")
    if not _WRITTEN.fullmatch(url) or _NEVER.search(url):
        raise ValueError("a URL is of printable ASCII; write anything else as %XX")
    parts = urlsplit(url)
    if parts.scheme not in _SAFER:
        raise ValueError("a web URL begins with https:// or http://")
    if "@" in parts.netloc:
        raise ValueError("a URL with a name or password in it is refused: it would end up in logs")
    if not parts.hostname:
        raise ValueError("the URL names no host")
    if parts.port == 0:
        raise ValueError("there is no port 0")
    if parts.fragment:
        raise ValueError("what stands behind # is not sent to a server; leave it out")
    return url


def shown(url: str) -> str:
    """The URL for logs and errors, without what may give access: its query, a name and password."""
    url = _USER.sub("//…@", url, count=1)
    return url.partition("?")[0] + "?…" if "?" in url else url


def place_of(url: str) -> str:
    """The URL without its query: what stays the same when it is signed anew for each request."""
    return url.partition("?")[0]


def check_redirect(asked: str, here: str, there: str, allowed: Depth) -> None:
    """Raise `RedirectRefused` unless ``here`` may send us on to ``there``.

    Args:
        asked: the URL that it began with.
        there: whole, without a fragment.
        allowed: how far inside it may lead.
    """
    scheme, target = urlsplit(here).scheme, urlsplit(there)
    if target.scheme not in _SAFER[scheme]:
        raise refused(asked, there, f"from {scheme} to {target.scheme}")
    try:
        check_web_url(there)
    except ValueError as error:
        raise refused(asked, there, str(error)) from None
    host = target.hostname or ""
    if depth_of_host(host) > allowed:
        raise refused(asked, there, inside(host, depth_of_host(host)), SETTING)


def refused(asked: str, there: str, why: str, setting: str = "") -> RedirectRefused:
    """The error that names both URLs, and the setting that would allow it where there is one."""
    remedy = f"; if that is meant, set {setting}" if setting else ""
    return RedirectRefused(
        f"{shown(asked)} redirects to {shown(there)}, which is refused: {why}{remedy}",
        url=shown(asked), target=shown(there), setting=setting,
    )  # fmt: skip


def inside(address: str, depth: Depth) -> str:
    """In words, why an address is none that strangers may send us to."""
    of = {Depth.PRIVATE: "of a private network", Depth.LOCAL: "of this machine or link"}
    return f"{address} is an address {of.get(depth, 'like any other')}"
