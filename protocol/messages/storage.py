"""Messages to storage: the guardian of model files, of accepted work and of stored files."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from protocol.blobs import Blob
from protocol.messages.base import Ask, Empty, Message, Role, Stream

MOST_PART_BYTES = 1024 * 1024
"""Of a stored file, in one message: large enough that messages cost nothing beside the disk, and a
hundred of them in hand are no danger."""


class Located(Message):
    """A file that is on disk and is what it claims to be."""

    asset: str
    path: str
    sha256: str
    size: int
    """Bytes."""
    version: str = ""
    instead_of: str = ""
    """The asset that was asked for, where it cannot be had now and this one is its fallback."""


class AssetProgress(Message):
    """How far the work on an asset has come."""

    asset: str
    stage: Literal["downloading", "unpacking", "verifying", "repairing"]
    done_bytes: int
    total_bytes: int
    done_chunks: int = 0
    total_chunks: int = 0
    """Pieces of the file that the stage handles; 0 where it does not go by pieces."""
    bytes_per_s: float | None = None
    """Over the last seconds; None while it cannot be said."""
    remaining_s: float | None = None
    """Of this stage."""


class Provide(Stream[AssetProgress, Located], operation="storage.provide", role=Role.INTERNAL):
    """Make sure the asset is on disk and verified: fetch what is missing, tell the progress."""

    asset: str = Field(min_length=1, max_length=200)
    """A name from the manifest, or ``default`` for the default language model."""
    fetch: bool = True
    """Whether it is fetched where it is not here; else it is `AssetUnavailable` then, at once."""


class AssetStatus(Message):
    """One asset of the manifest and whether it is here."""

    asset: str
    description: str
    path: str
    """In the asset folder."""
    size: int
    """Bytes."""
    sha256: str
    version: str
    licence: str
    present: bool
    """Whether a file of its size is there: a look, and no reading."""
    default: bool
    required: bool
    pinned: bool
    """Whether it stays at this version."""
    fallback: str
    used_by: list[str]
    """Actors that have it loaded, or are about to."""


class Assets(Message):
    """All assets of the manifest in force."""

    version: str
    """Of the manifest."""
    assets: list[AssetStatus]
    problems: list[str]
    """What is wrong with the lists in the asset folder, or with what was trusted."""


class ListAssets(Ask[Assets], operation="storage.list", role=Role.OBSERVE):
    """Which assets are there, and which are on disk?"""

    idempotent = True


class CheckedAsset(Message):
    """An asset, and what its file is worth."""

    asset: str
    state: Literal["whole", "missing", "damaged"]
    path: str
    size: int
    damaged_chunks: list[int]
    """Which of its pieces are wrong, where that can be told."""
    all_chunks: int
    reason: str


class CheckedAssets(Message):
    """What the files are worth."""

    assets: list[CheckedAsset]


class VerifyAssets(
    Stream[AssetProgress, CheckedAssets], operation="storage.verify", role=Role.OPERATE
):
    """Read every byte of these assets' files and compare; nothing is moved or mended."""

    names: list[str] = Field(default_factory=list, max_length=10_000)
    """None: all that are here."""


class RepairAssets(
    Stream[AssetProgress, CheckedAssets], operation="storage.repair", role=Role.OPERATE
):
    """Have these assets right: read every byte, mend what is damaged, fetch what is missing. Who
    has a damaged one loaded is restarted."""

    names: list[str] = Field(default_factory=list, max_length=10_000)
    """None: all that are here."""


class AssetChange(Message):
    """A file that an update brings."""

    asset: str
    before: str
    """Its version; empty for a new file, or one whose publisher names none."""
    after: str
    changelog: str
    size: int
    """Bytes."""


class UpdatedAssets(Message):
    """What an update did, or would do."""

    version: str
    """Of the manifest."""
    changes: list[AssetChange]
    fetched_bytes: int
    applied: bool


class UpdateAssets(
    Stream[AssetProgress, UpdatedAssets], operation="storage.update", role=Role.OPERATE
):
    """Ask the publisher for a newer manifest, fetch what changed of it, and use that. Who has a
    changed file loaded is restarted."""

    check_only: bool = False
    """Say what there is, and fetch nothing."""
    fetch_only: bool = False
    """Have it here, and use it when it is asked for again."""


class ReloadAssets(Ask[Empty], operation="storage.reload_assets", role=Role.OPERATE):
    """The lists in the asset folder changed: read them anew. Who has a file loaded that is no
    longer the one in force is restarted."""

    idempotent = True


class DoubtAsset(Ask[Empty], operation="storage.doubt", role=Role.INTERNAL):
    """What an engine makes of this file is garbage: read every byte of it, and mend it if it is
    damaged. Answered at once."""

    idempotent = True
    sha256: str


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


# --- stored files ---------------------------------------------------------------------------


class StoredFileInfo(Message):
    """What is known of a stored file."""

    owner: str
    """The actor whose file it is."""
    name: str
    size: int
    """Bytes."""
    checksum: str
    """``blake3-`` and 64 hexadecimal digits: of the content."""
    saved_at: float
    """Seconds since the Unix epoch."""
    expires_at: float | None = None
    """Seconds since the Unix epoch; from then on it is not there any more. None: never."""


class FileSaved(Message):
    """How far an upload is."""

    received: int
    """Bytes so far: the offset of the next part."""
    file: StoredFileInfo | None = None
    """Once the last part came: the file is on the disk, and is what the name means from now on."""


class SaveFile(Ask[FileSaved], operation="storage.save_file", role=Role.INTERNAL):
    """Save a file, or a part of one, under a name of the sender's own; answered when it is on the
    disk. What the name meant before is whole until then, and replaced in one step.

    A file of up to 1 MiB comes in one message. A larger one comes in parts, one after the other,
    each sent until it is answered: a part that came already changes nothing. Parts are kept by one
    process of storage: from its next one the answer is ``not_found`` with ``details.upload``, and
    the upload begins anew. One that is left alone expires, and counts against the quota until then.
    """

    idempotent = True
    name: str
    """At most 120 characters: lower-case letters a to z, digits, and ``.`` ``_`` ``-`` between
    them, with ``/`` between parts."""
    data: Blob
    """At most 1 MiB."""
    upload: str = Field(default="", max_length=100)
    """Which upload it is a part of: an id that the sender draws. Empty: this is the whole file."""
    offset: int = Field(default=0, ge=0)
    """Of the part in the file, in bytes."""
    last: bool = True
    checksum: str = ""
    """Of the whole file, ``blake3-HEX``; comes with the last part, which needs it. A file in one
    message may do without."""
    size: int | None = Field(default=None, ge=0)
    """Of the whole file in bytes, where it is known: room for it is kept from the first part on."""
    ttl_s: float | None = Field(default=None, gt=0, le=315_360_000, allow_inf_nan=False)
    """Seconds from the end of the upload after which the file goes by itself. None: never."""


class AbandonUpload(Ask[Empty], operation="storage.abandon_upload", role=Role.INTERNAL):
    """The rest of an upload will not come: what was kept for it is free again."""

    idempotent = True
    upload: str = Field(min_length=1, max_length=100)


class FilePart(Message):
    """A part of a stored file."""

    offset: int
    data: Blob
    checksum: str
    """Of the whole file: who goes on in another stream asks for this one."""


class FileRead(Message):
    """The whole file was read, and is what was saved, also where only a range of it was asked
    for."""

    file: StoredFileInfo


class ReadFile(Stream[FilePart, FileRead], operation="storage.read_file", role=Role.OPERATE):
    """The content of a stored file, or a range of it. The end comes only when the content is to the
    byte what was saved; else the stream ends with ``asset_corrupt``, and what came is not to be
    used. A file that is replaced meanwhile is read to its end as it was."""

    needs_received = False
    keepable = False
    owner: str = ""
    """The actor whose file it is; empty: the sender, which then has to be one."""
    name: str
    offset: int = Field(default=0, ge=0)
    """Bytes before the range."""
    size: int | None = Field(default=None, ge=0)
    """Bytes of the range, which may go beyond the file's end. None: all to its end."""
    checksum: str = ""
    """Only if this is still its content; else the answer is ``not_found``. Empty: whatever it
    is."""


class StoredFiles(Message):
    """In the order of their names."""

    items: list[StoredFileInfo]
    more: bool
    """Whether others follow: ask again with the last name in ``after``."""


class ListFiles(Ask[StoredFiles], operation="storage.list_files", role=Role.OPERATE):
    """Which files does an actor keep?"""

    idempotent = True
    owner: str = ""
    """The actor whose files are meant; empty: the sender, which then has to be one."""
    prefix: str = ""
    """Only names that begin with it."""
    after: str = ""
    """Only names behind this one."""
    limit: int = Field(default=100, ge=1, le=1000)


class FileDeleted(Message):
    """It is not there any more."""

    deleted: bool
    """Whether it was there."""


class DeleteFile(Ask[FileDeleted], operation="storage.delete_file", role=Role.OPERATE):
    """Delete a stored file; answered when that is on the disk. An actor deletes its own ones
    only."""

    idempotent = True
    owner: str = ""
    """The actor whose file it is; empty: the sender, which then has to be one."""
    name: str


class OwnerUsage(Message):
    """What one owner keeps, and may keep."""

    owner: str
    used_bytes: int
    allowed_bytes: int
    reserved_bytes: int
    """What open uploads will add."""
    files: int
    allowed_files: int
    reserved_files: int
    open_uploads: int


class FileUsages(Message):
    """In the order of the owners' names."""

    items: list[OwnerUsage]


class FileUsage(Ask[FileUsages], operation="storage.file_usage", role=Role.OBSERVE):
    """How much do the owners of stored files keep, and how much may they?"""

    idempotent = True
    owner: str = ""
    """One actor. Empty: all that keep something."""
