"""Whose prompt is read next.

llama.cpp fills each batch from its slots in their order, the first slot first: with long prompts
coming in all the time, those in the last slots wait for ever (measured: a median of 46 s and 281 s
for the slowest, in four minutes of eight clients; and two of 300 waited for more than ten
minutes). So it is given only what it reads without letting anybody wait so long:

- of long prompts one at a time, in the order in which they came
- beside it short ones, at once, as many as leave half of each batch to the long one
- where all are small, as many of them as are read within a few batches

A prompt is as long as what has to be read of it: its beginning is known where the one before began
alike, as with the template's instructions, or with the same conversation a turn ago.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence

SMALL_TOKENS = 128
"""A prompt of no more is small, and so many tokens of small ones are read together: a question
without a history has some tens."""
LOOK_S = 0.05
"""How often who waits looks whether he is still wanted."""


class KnownPrompts:
    """The prompts that idle slots hold: what llama.cpp finds there it does not read again, and one
    slot serves one answer. Pure, and an estimate: which slot it takes is its own affair."""

    def __init__(self, slots: int) -> None:
        self._idle: deque[Sequence[int]] = deque(maxlen=slots)

    def take(self, prompt: Sequence[int]) -> tuple[int, Sequence[int]]:
        """How many tokens of it have to be read, at least one, as the last one always is; and the
        prompt that it goes on from, which serves nobody else until it is given back."""
        best: Sequence[int] = ()
        alike = 0
        for other in self._idle:
            if (length := _alike_until(prompt, other)) > alike:
                best, alike = other, length
        if best:
            self._idle.remove(best)
        return max(1, len(prompt) - alike), best

    def give_back(self, prompt: Sequence[int]) -> None:
        """A slot that holds this one is idle now."""
        if prompt:
            self._idle.append(prompt)


def _alike_until(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens they have in common from the beginning on. By halves, as comparing slices
    costs far less than a loop over their tokens."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


class PromptOrder:
    """Who may be read now. Pure."""

    def __init__(self, batch_tokens: int) -> None:
        self._short_tokens = batch_tokens // 2
        """Longer ones are long; and of short ones together no more are read at once."""
        self._together = max(self._short_tokens, SMALL_TOKENS)
        self._waiting: dict[Hashable, int] = {}
        self._reading: dict[Hashable, int] = {}

    def come(self, key: Hashable, tokens: int) -> None:
        """This one is to be read."""
        self._waiting[key] = tokens

    def begins(self, key: Hashable) -> bool:
        """Whether it is its turn; then it is being read."""
        tokens = self._waiting[key]
        if self._all_are_small():
            in_hand = sum(self._reading.values())
            if next(iter(self._waiting)) != key or (in_hand and in_hand + tokens > self._together):
                return False
            self._reading[key] = self._waiting.pop(key)
            return True
        mine = [other for other, size in self._waiting.items() if self._alike(size, tokens)]
        in_hand = sum(size for size in self._reading.values() if self._alike(size, tokens))
        if mine[0] != key or (in_hand and in_hand + tokens > self._short_tokens):
            return False
        self._reading[key] = self._waiting.pop(key)
        return True

    def over(self, key: Hashable) -> None:
        """It is read, or not wanted any more. More than once is no mistake."""
        self._waiting.pop(key, None)
        self._reading.pop(key, None)

    def _all_are_small(self) -> bool:
        return all(
            size <= SMALL_TOKENS
            for each in (self._waiting, self._reading)
            for size in each.values()
        )

    def _alike(self, one: int, other: int) -> bool:
        return (one > self._short_tokens) is (other > self._short_tokens)


class PromptTurns:
    """A `PromptOrder` for threads that wait for their turn."""

    def __init__(self, batch_tokens: int, slots: int) -> None:
        self._order = PromptOrder(batch_tokens)
        self._known = KnownPrompts(slots)
        self._held: dict[Hashable, Sequence[int]] = {}
        """What the slot of each answer will be known to hold once it is idle."""
        self._changed = threading.Condition()

    def wait(
        self,
        key: Hashable,
        prompt: Sequence[int],
        wanted: Callable[[], bool],
        on_waiting: Callable[[], None] = lambda: None,
    ) -> bool:
        """Return when it is the turn of this prompt (its token ids); or False when it is not
        ``wanted`` any more. Then, and when it has been read, call `over`, and `leave` when its
        answer is. ``on_waiting`` is called now and then as long as it waits."""
        with self._changed:
            unread, self._held[key] = self._known.take(prompt)
            self._order.come(key, unread)
            while wanted():
                if self._order.begins(key):
                    # The next one of its kind may fit beside it.
                    self._changed.notify_all()
                    return True
                on_waiting()
                self._changed.wait(LOOK_S)
            return False

    def over(self, key: Hashable) -> None:
        """See `PromptOrder.over`."""
        with self._changed:
            self._order.over(key)
            self._changed.notify_all()

    def leave(self, key: Hashable, read: Sequence[int] = ()) -> None:
        """Its answer is over, and its slot idle; ``read``: its prompt, if all of it was read."""
        self.over(key)
        with self._changed:
            held = self._held.pop(key, ())
            self._known.give_back(read or held)
