"""Frames that travel together: several frames for one peer as one message of the transport.

::

    'N' 0x01 | [ frame, frame, … ]      a msgpack array of byte strings

What a zmq message costs (the signals to its I/O thread, the system calls) is more than all that
noyau does with a frame, so the frames of a burst share it. A frame alone travels as it is: an
envelope begins with 'n', a batch with 'N'. A receiver takes both, a sender need not make batches.
Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

import msgpack

from protocol.blobs import size_of

PREFIX = b"N\x01"
MAX_FRAMES = 32
"""Of one batch that is made here. A whole burst as one message would have the two sides work in
turns, not side by side: with 64 requests in flight 32 made 1.25 times as many a second as 8, and
1.5 times as many as 48."""
MAX_BYTES = 16 * 1024
"""With so many a batch is whole. A frame that has them by itself goes alone, as copying it costs
more than is saved."""
MOST_FRAMES = 1024
"""Of one batch that is taken from others; more are refused before they are unpacked."""


def join(frames: Sequence[bytes]) -> bytes:
    """One message of several frames."""
    packed: bytes = msgpack.packb(frames)
    return PREFIX + packed


def split(message: bytes) -> list[bytes]:
    """The frames of a message. One that is no batch is a frame itself; so is a broken batch, which
    no codec takes for an envelope, so that its sender is told."""
    if not message.startswith(PREFIX):
        return [message]
    try:
        frames = msgpack.unpackb(message[len(PREFIX) :], max_array_len=MOST_FRAMES)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
        return [message]
    if type(frames) is list and frames and all(type(frame) is bytes for frame in frames):
        return frames
    return [message]


class Lane:
    """Frames for one peer that wait for each other, or for the transport to take more."""

    __slots__ = ("_apart", "_transmit", "frames", "size", "stuck")

    def __init__(self, transmit: Callable[[bytes], bool]) -> None:
        """``transmit`` sends a message, or returns False when it cannot be taken now."""
        self.frames: deque[bytes] = deque()
        """What waits."""
        self.size = 0
        """Its bytes."""
        self.stuck = False
        """The transport took no more when it was last tried."""
        self._transmit = transmit
        self._apart = False
        """Whether one of them may have to travel by itself."""

    def add(self, frame: bytes) -> bool:
        """Have a frame wait behind the others. Whether what waits is a whole batch: nothing is won
        by waiting longer."""
        frames = self.frames
        frames.append(frame)
        if type(frame) is bytes:
            size = len(frame)
        else:
            size = size_of(frame)
            self._apart = True
        if size >= MAX_BYTES:
            self._apart = True
        self.size = size = self.size + size
        return size >= MAX_BYTES or len(frames) >= MAX_FRAMES

    def flush(self) -> None:
        """Send what waits, in order, until all is sent or the lane is `stuck`. What ``transmit``
        raises passes through, and the frames stay."""
        self.stuck = False
        frames = self.frames
        while frames:
            count = self._next_count()
            message = frames[0] if count == 1 else join([*islice(frames, count)])
            if not self._transmit(message):
                self.stuck = True
                return
            if count == len(frames):
                frames.clear()
                self.size, self._apart = 0, False
            else:
                for _ in range(count):
                    self.size -= size_of(frames.popleft())

    def _next_count(self) -> int:
        """How many frames the next message holds."""
        frames = self.frames
        if self.size < 2 * MAX_BYTES and not self._apart:
            return min(len(frames), MAX_FRAMES)
        count = size = 0
        for frame in islice(frames, MAX_FRAMES):
            if type(frame) is not bytes or len(frame) >= MAX_BYTES:
                return count or 1
            count += 1
            size += len(frame)
            if size >= MAX_BYTES:
                break
        return count
