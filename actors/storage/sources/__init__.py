"""The kinds of places that assets come from. A new kind is one file here and one line below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from actors.storage.sources.interface import (
    Cancelled,
    Order,
    Progress,
    Report,
    Sink,
    Source,
    SourceSpec,
    Stage,
)
from actors.storage.sources.pypi import PypiSource, PypiSpec


@dataclass(frozen=True)
class SourceKind:
    """A kind's two halves: its fields in the manifest, and how to make what fetches."""

    spec: type[SourceSpec]
    # Any, because each kind takes its own spec; the manifest pairs them by the same name.
    make: Callable[[], Source[Any]]


SOURCE_KINDS: dict[str, SourceKind] = {
    "pypi": SourceKind(PypiSpec, PypiSource),
}


def default_sources() -> dict[str, Source[Any]]:
    """One source of every kind, with its default settings."""
    return {name: kind.make() for name, kind in SOURCE_KINDS.items()}


__all__ = [
    "SOURCE_KINDS",
    "Cancelled",
    "Order",
    "Progress",
    "PypiSource",
    "PypiSpec",
    "Report",
    "Sink",
    "Source",
    "SourceKind",
    "SourceSpec",
    "Stage",
    "default_sources",
]
