"""The states of an upload, and what is to be done with a part of it. Pure.

::

    open ──part──► open ──last──► sealing ──► saved
      └── abandoned, expired, failed ──┴────► dropped

Parts come one after the other. One that comes again (its answer was lost) changes nothing, so that
whoever sends parts may send each until it is answered. The last one brings the checksum of the
whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from actors.storage.stored.entries import is_checksum
from protocol.errors import InvalidRequest
from protocol.lifecycle import TransitionTable
from protocol.messages.storage import MOST_PART_BYTES


class UploadState(StrEnum):
    """Where an upload stands."""

    OPEN = "open"
    SEALING = "sealing"
    """All of it came; it is being proved and published."""
    SAVED = "saved"
    DROPPED = "dropped"


class UploadEvent(StrEnum):
    """What happens to one."""

    PART = "part"
    LAST = "last part"
    PUBLISHED = "published"
    FAILED = "failed"
    ABANDONED = "abandoned"
    EXPIRED = "expired"


_S, _E = UploadState, UploadEvent

UPLOAD: TransitionTable[UploadState, UploadEvent] = TransitionTable(
    "upload",
    {
        (_S.OPEN, _E.PART): _S.OPEN,
        (_S.OPEN, _E.LAST): _S.SEALING,
        (_S.SEALING, _E.PUBLISHED): _S.SAVED,
        (_S.OPEN, _E.FAILED): _S.DROPPED,
        (_S.SEALING, _E.FAILED): _S.DROPPED,
        (_S.OPEN, _E.ABANDONED): _S.DROPPED,
        (_S.OPEN, _E.EXPIRED): _S.DROPPED,
    },
)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an upload, without its bytes."""

    upload: str
    """The id that its sender drew; empty: the whole file comes in this part."""
    name: str
    offset: int
    length: int
    last: bool = True
    checksum: str = ""
    """Of the whole file, with the last part; empty for a file of one part whose sender has none."""
    size: int | None = None
    """Of the whole file, where that is known from the beginning."""
    ttl_s: float | None = None

    def check(self) -> None:
        """Raise `InvalidRequest` for a part that can be none of any upload."""
        if self.length > MOST_PART_BYTES:
            raise InvalidRequest(
                f"a part of {self.length} bytes is too large: {MOST_PART_BYTES} are the most; send "
                "the file in several, with an `upload` id and offsets"
            )
        if not self.upload and (self.offset or not self.last):
            raise InvalidRequest(
                "a file in several parts needs an `upload` id, the same in each, drawn anew for "
                "each file"
            )
        if self.checksum and not is_checksum(self.checksum):
            raise InvalidRequest(
                f"{self.checksum[:80]!r} is no checksum: blake3- and 64 hexadecimal digits, in "
                "lower case"
            )
        if self.last and self.upload and not self.checksum:
            raise InvalidRequest("the last part of an upload must have the `checksum` of the whole")


class Upload:
    """One file on its way in. Times are monotonic seconds."""

    def __init__(self, owner: str, part: Part, now: float) -> None:
        self.owner = owner
        self.id = part.upload
        self.name = part.name
        self.declared = part.size
        self.state = UploadState.OPEN
        self.received = 0
        """Bytes."""
        self.claim = max(part.size or 0, part.offset + part.length)
        """Bytes that are kept free for it."""
        self.touched_at = now

    def claim_with(self, part: Part) -> int:
        """Bytes that it needs with this part, which is new."""
        return max(self.claim, part.offset + part.length)

    def is_new(self, part: Part) -> bool:
        """Whether the part brings what comes next; False: it came already, and its bytes should
        be the same. Raises `InvalidRequest` for one that does not fit, with what would."""
        if part.name != self.name:
            raise InvalidRequest(
                f"upload {self.id} is {self.name!r}, and this part says {part.name!r}"
            )
        end = part.offset + part.length
        if part.offset < self.received and end <= self.received and not part.last:
            return False
        if part.offset != self.received:
            raise InvalidRequest(
                f"a part of upload {self.id} begins at {part.offset}, where {self.received} is "
                "due: send each part until it is answered, then the next one",
                expected=self.received,
            )
        if self.declared is not None and (
            end > self.declared or (part.last and end != self.declared)
        ):
            raise InvalidRequest(
                f"upload {self.id} was to have {self.declared} bytes, and this part makes it {end}"
            )
        return True

    def take(self, event: UploadEvent) -> UploadState:
        """Go on by one step. Raises `IllegalTransition` and leaves the state as it was."""
        self.state = UPLOAD.next(self.state, event)
        return self.state

    def wrote(self, part: Part, now: float) -> None:
        """The bytes of a new part are written."""
        self.received = part.offset + part.length
        self.touched_at = now
        self.take(UploadEvent.LAST if part.last else UploadEvent.PART)
