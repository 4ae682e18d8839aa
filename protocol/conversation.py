"""The states of a conversation, the same table at both ends.

An ask is a request and exactly one reply or error. A stream is a request, chunks numbered from 0
that flow by credit, and exactly one end or error. A caller may cancel either; then, or when its
deadline passes or its peer dies, it is over at once and whatever still arrives is late.
"""

from __future__ import annotations

from enum import StrEnum

from protocol.errors import IllegalTransition, StreamBroken
from protocol.lifecycle import TransitionTable


class State(StrEnum):
    """Where a conversation stands."""

    OPEN = "open"
    DONE = "done"


class Step(StrEnum):
    """What happens in a conversation after its request."""

    REPLY = "reply"
    CHUNK = "chunk"
    CREDIT = "credit"
    HEARTBEAT = "heartbeat"
    END = "end"
    ERROR = "error"
    CANCEL = "cancel"
    DEADLINE = "deadline"
    DEATH = "death"


def _ends(*steps: Step) -> dict[tuple[State, Step], State]:
    return {(State.OPEN, step): State.DONE for step in steps}


_ALWAYS = _ends(Step.ERROR, Step.CANCEL, Step.DEADLINE, Step.DEATH)

ASK: TransitionTable[State, Step] = TransitionTable("ask", _ends(Step.REPLY) | _ALWAYS)

STREAM: TransitionTable[State, Step] = TransitionTable(
    "stream",
    dict.fromkeys(
        ((State.OPEN, step) for step in (Step.CHUNK, Step.CREDIT, Step.HEARTBEAT)), State.OPEN
    )
    | _ends(Step.END)
    | _ALWAYS,
)

# An enum's member is looked up anew, slowly, wherever it is named; this one is for every request.
_OPEN = State.OPEN


class Conversation:
    """One conversation at one end. Pure: it says what is allowed, others send and receive."""

    __slots__ = ("state", "table")

    def __init__(self, table: TransitionTable[State, Step]) -> None:
        self.table = table
        self.state = _OPEN

    def take(self, step: Step) -> State:
        """Go on by one step. Raises `IllegalTransition` and leaves the state as it was."""
        self.state = self.table.next(self.state, step)
        return self.state


class Inflow:
    """The receiving end of a stream: every chunk once, in order, and credit for more.

    Credit is absolute: "chunks numbered below N may be sent". A credit message lost or repeated
    therefore does no harm. It is renewed when half of the window is used, so that the sender of
    a fast stream never waits for it.
    """

    __slots__ = ("granted", "next", "renew_at", "window")

    def __init__(self, window: int, first: int = 0) -> None:
        """``first``: the number of the first chunk, of a stream that is resumed."""
        self.next = first
        self.window = window
        self.granted = first + window
        self.renew_at = first + max(1, window // 2)
        """How many chunks have to be used up for a credit to be due."""

    def accept(self, sequence: int) -> None:
        """Take chunk ``sequence``. Raises `StreamBroken` when another was due."""
        if sequence != self.next:
            raise StreamBroken(
                f"chunk {sequence} came where chunk {self.next} was due",
                expected=self.next,
                got=sequence,
            )
        if sequence >= self.granted:
            raise IllegalTransition(f"chunk {sequence} came on a credit of {self.granted}")
        self.next += 1

    def check(self, count: int) -> None:
        """Check what its sender says of how many chunks there were so far, or in all. Raises
        `StreamBroken`."""
        if count != self.next:
            raise StreamBroken(
                f"chunk {self.next} was due, of {count} that were sent",
                expected=count,
                got=self.next,
            )

    def renew(self, consumed: int) -> int | None:
        """The new credit to send after ``consumed`` chunks were used up, or None yet."""
        if consumed < self.renew_at:
            return None
        self.granted = consumed + self.window
        self.renew_at = consumed + max(1, self.window // 2)
        return self.granted


class Outflow:
    """The sending end of a stream: numbers the chunks and stops when credit is used up."""

    __slots__ = ("granted", "next")

    def __init__(self, window: int) -> None:
        self.next = 0
        self.granted = window

    @property
    def open(self) -> bool:
        """Whether one more chunk may be sent now."""
        return self.next < self.granted

    def number(self) -> int:
        """The number of the next chunk. Raises `IllegalTransition` without credit."""
        number = self.next
        if number >= self.granted:
            raise IllegalTransition(f"no credit for chunk {number}")
        self.next = number + 1
        return number

    def credit(self, granted: int) -> None:
        """Take a credit message; an older one than was had already changes nothing."""
        self.granted = max(self.granted, granted)


INITIAL_CREDIT = 64
"""Chunks that may be sent before the first credit. 64 one-token chunks are most of a second of
text: a reader that stops for a moment stops nobody, one that is gone costs at most this much."""
