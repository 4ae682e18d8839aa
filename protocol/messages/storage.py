"""Messages to storage: the guardian of model files and other assets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from protocol.messages.base import Ask, Empty, Message, Role, Stream


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


class WorkItem(Message):
    """One piece of accepted work."""

    id: str
    state: Literal["accepted", "done", "failed"]
    request: dict[str, Any]
    taken_up: int
    """How many incarnations of its worker had it after the first: each of those before died with
    it in hand."""
    accepted_at: float
    """Seconds since the Unix epoch."""
    error_code: str = ""
    """Of work that failed; ``poisoned`` where too many processes died over it."""
    deaths: list[str] = Field(default_factory=list)
    """The processes that died in a row with it in hand, ``NAME.EPOCH``: it got no further between
    them."""
    deaths_in_all: int = 0
    """Those before it last got on are among them."""


class AcceptWork(Ask[WorkItem], operation="storage.accept", role=Role.INTERNAL):
    """Commit a piece of work; answered when it is on the disk. What is accepted is finished, or
    ends in one typed error, whatever dies. Asking again for the same ``id`` takes it up; where a
    worker died with it in hand, that death is counted, and one too many ends it as `RecordDeath`
    does."""

    idempotent = True
    id: str = Field(min_length=1, max_length=100)
    kind: Literal["query"]
    request: dict[str, Any]
    """What was asked: enough to do it again from the beginning."""
    holder: str
    """The epoch of whoever does it: a different one than before is counted in ``taken_up``."""
    lost: str = ""
    """The worker that its client says died with it, ``NAME.EPOCH``; empty where none died."""
    emitted: int = Field(default=0, ge=0)
    """Characters of the answer that its client has."""


class RecordDeath(Ask[WorkItem], operation="storage.died", role=Role.INTERNAL):
    """A process died that worked on this for its holder. Answered when that is on the disk: with
    work that failed, and the code ``poisoned``, when it was one too many.

    Counted once for each process. Until its holder accepts the work again nobody has it in hand,
    and whoever dies meanwhile did not die of it.
    """

    idempotent = True
    id: str
    died: str
    """``NAME.EPOCH``."""
    emitted: int = Field(ge=0)
    """Characters of the answer so far: more than at the last death, and it got on."""


class SettleWork(Ask[Empty], operation="storage.settle", role=Role.INTERNAL):
    """A piece of work ended: well, or with an error. Answered when that is on the disk."""

    idempotent = True
    id: str
    error_code: str = ""
    """Of the error it ended with; empty when it was done."""


class OpenWork(Message):
    """Oldest first."""

    items: list[WorkItem]


class ListOpenWork(Ask[OpenWork], operation="storage.open_work", role=Role.INTERNAL):
    """What was accepted and has not ended?"""

    idempotent = True
    kind: Literal["query"]


class PoisonedWork(Message):
    """Newest first."""

    ids: list[str]


class ListPoisoned(Ask[PoisonedWork], operation="storage.poisoned", role=Role.INTERNAL):
    """Over which work did too many processes die? Of that of the last days."""

    idempotent = True
    kind: Literal["query"]
