"""The kinds of places that assets come from. A new kind is one file here and one line below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from actors.storage.sources.file import FileSource, FileSpec
from actors.storage.sources.http import HttpSource, HttpSpec
from actors.storage.sources.interface import (
    PIECE_BYTES,
    Cancelled,
    NoRanges,
    NotThere,
    Order,
    Progress,
    Report,
    Source,
    SourceSpec,
    Stage,
    Versions,
)
from actors.storage.sources.pypi import PypiSource, PypiSpec


@dataclass(frozen=True)
class SourceKind:
    """A kind's two halves: its fields in the manifest, and how to make what reads."""

    spec: type[SourceSpec]
    # Any, because each kind takes its own spec; the manifest pairs them by the same name.
    make: Callable[[], Source[Any]]
    schemes: tuple[str, ...] = ()
    """Of URLs that can stand in the manifest in place of its fields."""
    of_url: Callable[[str], SourceSpec] | None = None


SOURCE_KINDS: dict[str, SourceKind] = {
    "file": SourceKind(FileSpec, FileSource, ("file",), FileSpec.of_url),
    "http": SourceKind(HttpSpec, HttpSource, ("http", "https"), HttpSpec.of_url),
    "pypi": SourceKind(PypiSpec, PypiSource),
}


def default_sources() -> dict[str, Source[Any]]:
    """One source of every kind, with its default settings."""
    return {name: kind.make() for name, kind in SOURCE_KINDS.items()}


def spec_of_url(url: str, base: str | None = None) -> SourceSpec:
    """A source that is written as a URL, relative to ``base`` or whole. ``ValueError`` says why it
    is none."""
    scheme = urlsplit(url).scheme
    if not scheme:
        if base is None:
            raise ValueError(f"{url!r} is no whole URL, and there is nothing it is relative to")
        if ".." in url.split("/") or url.startswith("/"):
            raise ValueError(f"{url!r} must stay below where the manifest lies")
        url = urljoin(base, url)
        scheme = urlsplit(url).scheme
    for kind in SOURCE_KINDS.values():
        if scheme in kind.schemes and kind.of_url is not None:
            return kind.of_url(url)
    known = ", ".join(scheme for kind in SOURCE_KINDS.values() for scheme in kind.schemes)
    raise ValueError(f"no source is called {scheme!r} in a URL; known: {known}")


__all__ = [
    "PIECE_BYTES",
    "SOURCE_KINDS",
    "Cancelled",
    "FileSource",
    "FileSpec",
    "HttpSource",
    "HttpSpec",
    "NoRanges",
    "NotThere",
    "Order",
    "Progress",
    "PypiSource",
    "PypiSpec",
    "Report",
    "Source",
    "SourceKind",
    "SourceSpec",
    "Stage",
    "Versions",
    "default_sources",
    "spec_of_url",
]
