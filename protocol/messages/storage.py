"""Messages to storage: the guardian of model files and other assets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from protocol.messages.base import Ask, Message, Role, Stream


class Located(Message):
    """A file that is on disk and is what it claims to be."""

    asset: str
    path: str
    sha256: str
    size: int
    """Bytes."""


class AssetProgress(Message):
    """How far the fetching of an asset has come."""

    asset: str
    stage: Literal["downloading", "unpacking", "verifying"]
    done_bytes: int
    total_bytes: int


class Provide(Stream[AssetProgress, Located], operation="storage.provide", role=Role.INTERNAL):
    """Make sure the asset is on disk and verified: fetch what is missing, tell the progress."""

    asset: str = Field(min_length=1, max_length=200)
    """A name from the manifest, or ``default`` for the default language model."""


class AssetStatus(Message):
    """One asset of the manifest and whether it is here."""

    asset: str
    description: str
    size: int
    present: bool
    default: bool


class Assets(Message):
    """All assets of the manifest."""

    assets: list[AssetStatus]


class ListAssets(Ask[Assets], operation="storage.list", role=Role.OBSERVE):
    """Which assets are there, and which are on disk?"""

    idempotent = True
