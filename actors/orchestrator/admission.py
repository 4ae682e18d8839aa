"""Who may use the engines now, who waits, and who is told to come back later. Pure.

::

    enter ─┬─ goes ahead ──────────────────────► leave
           ├─ waits ─┬─ goes ahead ────────────► leave
           │         ├─ displaced, too late      (Overloaded)
           │         ├─ deadline passed          (DeadlineExceeded)
           │         └─ abandon
           └─ refused                            (Overloaded)

Four classes, the higher one first. Who has waited ``ageing_s`` rises by one, up to HIGH, so that
only CRITICAL work can keep LOW work waiting for ever. Inside a class clients take turns (`Line`).
Nobody overtakes the next in order: where that one's tokens do not fit yet, all behind it wait.
"""

from __future__ import annotations

import math
from typing import Generic

from actors.orchestrator.admission_terms import (
    AdmissionMetrics,
    AdmissionPolicy,
    Capacity,
    Decision,
    DropMode,
    HardClosed,
    HardOpen,
    K,
    Refusal,
    Ticket,
)
from actors.orchestrator.line import Line
from actors.orchestrator.shedding import Shedding
from protocol.envelope import Priority
from protocol.errors import DeadlineExceeded, NoyauError, Overloaded

CRITICAL, HIGH, NORMAL, LOW = (priority.value for priority in Priority)


class AdmissionQueue(Generic[K]):
    """The queue before the engines.

    Every method that may change who goes ahead returns a `Decision` to be carried out at once.
    ``now`` is monotonic seconds and never smaller than before.
    """

    def __init__(self, policy: AdmissionPolicy, capacity: Capacity) -> None:
        self.policy = policy
        self._capacity = capacity
        self._slots = capacity.slots
        self._nothing: Decision[K] = Decision()
        self._lines: tuple[Line[K], ...] = tuple(Line() for _ in Priority)
        self._waiting = 0
        self._running: dict[K, Ticket[K]] = {}
        self._tokens = 0
        self._shedding = Shedding(policy)
        self._make_room()
        self._look_at = math.inf
        """Before this nobody rises by age, and hard open does not end by time."""
        self._next_deadline = math.inf
        """Before this no deadline of one who waits passes."""
        self._held_s = 0.0
        """Mean time from going ahead to leaving; 0 before the first has left."""
        self._weight = 1.0
        self._entered = self._admitted = self._finished = 0
        self._dropped = self._abandoned = self._expired = 0
        self._refused = dict.fromkeys(Refusal, 0)

    # --- what happens ---------------------------------------------------------------------------

    def enter(self, ticket: Ticket[K], now: float) -> Decision[K]:
        """One more wants to generate.

        1. What time has brought comes first: some have risen, hard open may be over.
        2. The next in order, with room for it, goes ahead.
        3. Hard open: LOW and NORMAL are shed.
        4. What cannot be finished by its deadline, as fast as things go, is refused.
        5. The queue is full: somebody is dropped as the drop mode says, else it is refused.
        6. It waits.
        """
        # 1.
        if now >= self._look_at:
            return self._settle(now) + self.enter(ticket, now)
        # 2.
        rank = ticket.rank = ticket.priority
        running, waiting = len(self._running), self._waiting
        if (
            running < self._slots
            and (not waiting or self._is_next(rank))
            and self._starts(ticket, now)
        ):
            self._entered += 1
            return Decision((ticket.key,))
        # 3.
        if self._shedding.is_open and rank >= NORMAL:
            return self._refuse(ticket, Refusal.SHEDDING, now)
        # 4. The exact estimate takes longer, and is never above the one behind all that wait.
        deadline = ticket.deadline
        wait_s = (waiting + 1) * self._held_s / running if running else 0.0
        if (
            deadline is not None
            and now + wait_s + self._held_s > deadline
            and now + self._wait_of(ticket) + self._held_s > deadline
        ):
            return self._refuse(ticket, Refusal.TOO_LATE, now)
        # 5.
        policy = self.policy
        dropped: Decision[K] | None = None
        if waiting >= policy.max_waiting or (
            wait_s > policy.longest_wait_s and waiting >= self._slots
        ):
            victims = self._victims(rank)
            if not victims:
                return self._refuse(ticket, Refusal.FULL, now)
            dropped = Decision((), tuple(self._drop(v, Refusal.FULL, now) for v in victims))
        # 6.
        self._entered += 1
        ticket.since = now
        self._lines[rank].join(ticket)
        self._waiting += 1
        if rank >= NORMAL and now + policy.ageing_s < self._look_at:
            self._look_at = now + policy.ageing_s
        if deadline is not None and deadline < self._next_deadline:
            self._next_deadline = deadline
        # Where the next in order was dropped, the one after it may fit.
        return self._nothing if dropped is None else dropped + self._settle(now)

    def leave(self, key: K, now: float) -> Decision[K]:
        """One that went ahead is done. Raises KeyError for any other."""
        ticket = self._running.pop(key)
        self._tokens -= ticket.cost
        self._finished += 1
        self._held_s += (now - ticket.since - self._held_s) * self._weight
        if self._weight > self.policy.rate_weight:
            # A plain mean until there are enough to forget the first ones.
            self._weight = max(self.policy.rate_weight, 1 / (self._finished + 1))
        if self._waiting or self._shedding.is_open:
            return self._settle(now)
        return self._nothing

    def abandon(self, key: K, now: float) -> Decision[K]:
        """Its owner is gone, whether it waits or was just told to go ahead. Nothing is measured,
        and nothing happens where the key is not inside any more."""
        ticket = self._running.pop(key, None)
        if ticket is not None:
            self._tokens -= ticket.cost
        else:
            ticket = next((line.tickets[key] for line in self._lines if key in line.tickets), None)
            if ticket is None:
                return self._nothing
            self._remove(ticket)
        self._abandoned += 1
        return self._settle(now)

    def resize(self, capacity: Capacity, now: float) -> Decision[K]:
        """The engines hold more or less now. Nobody that runs is turned out."""
        self._capacity = capacity
        self._slots = capacity.slots
        self._make_room()
        return self._settle(now)

    def tick(self, now: float) -> Decision[K]:
        """Nothing but time has passed: deadlines, ageing, the end of hard open."""
        expired: tuple[tuple[K, NoyauError], ...] = ()
        if now >= self._next_deadline:
            self._next_deadline = math.inf
            for line in self._lines:
                for ticket in list(line.tickets.values()):
                    if ticket.deadline is None:
                        continue
                    if ticket.deadline <= now:
                        expired += (self._expire(ticket),)
                    elif ticket.deadline < self._next_deadline:
                        self._next_deadline = ticket.deadline
        return Decision((), expired) + self._settle(now)

    @property
    def next_tick(self) -> float | None:
        """When `tick` should be called, in monotonic seconds; too early does no harm. None: time
        alone changes nothing."""
        at = min(self._look_at, self._next_deadline) if self._waiting else self._shedding.until
        return None if at == math.inf else at

    # --- what can be seen -----------------------------------------------------------------------

    def take_events(self) -> list[HardOpen | HardClosed]:
        """What happened since the last call that people should hear of."""
        return self._shedding.take_events()

    def metrics(self) -> AdmissionMetrics:
        """All there is to see, now."""
        # Where nobody waits, what runs says nothing of how much could.
        at_once = len(self._running) if self._waiting else self._capacity.slots
        rate = at_once / self._held_s if self._held_s else None
        most = self.policy.max_waiting
        if rate is not None:
            most = min(most, max(self._capacity.slots, int(rate * self.policy.longest_wait_s)))
        return AdmissionMetrics(
            waiting={p: len(line.tickets) for p, line in zip(Priority, self._lines, strict=True)},
            running=len(self._running),
            tokens=self._tokens,
            capacity=self._capacity,
            max_waiting=most,
            entered=self._entered,
            admitted=self._admitted,
            finished=self._finished,
            dropped=self._dropped,
            abandoned=self._abandoned,
            expired=self._expired,
            refused=dict(self._refused),
            rate_per_s=rate,
            estimated_wait_s=self._wait_s(self._waiting) if self._waiting else 0.0,
            hard_open_until=self._shedding.until if self._shedding.is_open else None,
        )

    # --- who goes ahead -------------------------------------------------------------------------

    def _settle(self, now: float) -> Decision[K]:
        """Let those go ahead whose turn it is and for whom there is room."""
        if now >= self._look_at:
            self._raise_by_age(now)
        ahead: tuple[K, ...] = ()
        dropped: tuple[tuple[K, NoyauError], ...] = ()
        running = self._running
        while True:
            while self._waiting and len(running) < self._slots:
                for line in self._lines:
                    if line.tickets:
                        break
                ticket = line.next()
                deadline = ticket.deadline
                if deadline is not None and now + self._held_s > deadline and self._waiting > 1:
                    # It would hold a slot that others wait for, and not be finished in time.
                    dropped += (self._drop(ticket, Refusal.TOO_LATE, now),)
                elif self._starts(ticket, now):
                    line.take(ticket)
                    self._waiting -= 1
                    ahead += (ticket.key,)
                else:
                    break
            if not self._shedding.is_open or not self._shedding.over(now, self._waiting):
                return Decision(ahead, dropped) if ahead or dropped else self._nothing
            # The slot that was kept is anybody's now.
            self._make_room()

    def _starts(self, ticket: Ticket[K], now: float) -> bool:
        """Have it go ahead, if there is room for it."""
        slots, most = self._room[ticket.rank]
        running, tokens = self._running, self._tokens + ticket.cost
        # What is larger than everything goes alone.
        if len(running) >= slots or (tokens > most and running):
            return False
        ticket.since = now
        running[ticket.key] = ticket
        self._tokens = tokens
        self._admitted += 1
        return True

    def _is_next(self, priority: int) -> bool:
        """Whether a newcomer of this class has nobody before it."""
        return not any(line.tickets for line in self._lines[: priority + 1])

    def _make_room(self) -> None:
        """What each class may use. While hard open, one slot and its part of the tokens are kept
        for CRITICAL, where there are two."""
        slots, tokens = self._slots, self._capacity.tokens
        room = (slots, tokens)
        if self._shedding.is_open and slots >= 2:
            self._room = (room, *[(slots - 1, tokens * (slots - 1) / slots)] * 3)
        else:
            self._room = (room,) * 4

    def _raise_by_age(self, now: float) -> None:
        """Whoever has waited long enough joins the class above. LOW first: one may rise twice."""
        ageing_s, until = self.policy.ageing_s, self._shedding.until
        # Where that is over, `Shedding.over` says so next.
        look_at = until if until > now else math.inf
        for rank in (LOW, NORMAL):
            line, above = self._lines[rank], self._lines[rank - 1]
            while line.tickets:
                # Whoever joined first rises first: in each class all have as long to wait.
                ticket = next(iter(line.tickets.values()))
                rises_at = ticket.rises_at(ageing_s)
                if rises_at > now:
                    look_at = min(look_at, rises_at)
                    break
                line.remove(ticket)
                ticket.rank = rank - 1
                above.join(ticket)
        self._look_at = look_at

    # --- who does not ---------------------------------------------------------------------------

    def _refuse(self, ticket: Ticket[K], reason: Refusal, now: float) -> Decision[K]:
        self._refused[reason] += 1
        return Decision((), ((ticket.key, self._overloaded(ticket, reason, now)),))

    def _victims(self, priority: int) -> list[Ticket[K]]:
        """Who is dropped from the full queue for a newcomer of this class; see `DropMode`."""
        mode = self.policy.drop_mode
        if mode is DropMode.ALL:
            return [t for line in self._lines[HIGH:] for t in line.tickets.values()]
        if mode is DropMode.LOW:
            lines = self._lines[priority + 1 :]
            return next(
                ([t] for line in reversed(lines) for t in reversed(line.tickets.values())), []
            )
        lines = self._lines[max(priority, HIGH) :]
        return next(([t] for line in reversed(lines) for t in line.tickets.values()), [])

    def _drop(self, ticket: Ticket[K], reason: Refusal, now: float) -> tuple[K, NoyauError]:
        """Take one out that waits, with what to tell it."""
        if ticket.deadline is not None and ticket.deadline <= now:
            return self._expire(ticket)
        self._remove(ticket)
        self._dropped += 1
        return ticket.key, self._overloaded(ticket, reason, now)

    def _expire(self, ticket: Ticket[K]) -> tuple[K, NoyauError]:
        self._remove(ticket)
        self._expired += 1
        return ticket.key, DeadlineExceeded("no engine slot was free in time")

    def _overloaded(self, ticket: Ticket[K], reason: Refusal, now: float) -> Overloaded:
        """The error for it, counted as one more rejection."""
        retry_after_s = self._retry_after_s(ticket, reason, now)
        if self._shedding.rejected(now, self._waiting, len(self._running)):
            self._make_room()
            self._look_at = min(self._look_at, self._shedding.until)
        text = f"{reason.text}; try again in {retry_after_s:g} s"
        return Overloaded(text, retry_after_s=retry_after_s, reason=reason.value)

    def _remove(self, ticket: Ticket[K]) -> None:
        self._lines[ticket.rank].remove(ticket)
        self._waiting -= 1

    # --- how long it takes ----------------------------------------------------------------------

    def _wait_s(self, before: float) -> float:
        """Until it is the turn of one with so many before it: each that runs is done, and lets
        one in, within the mean holding time. 0 where that is not known."""
        return (before + 1) * self._held_s / len(self._running) if self._running else 0.0

    def _wait_of(self, ticket: Ticket[K]) -> float:
        """The same for a newcomer, by its class and its client."""
        above = sum(len(line.tickets) for line in self._lines[: ticket.rank])
        return self._wait_s(above + self._lines[ticket.rank].before(ticket.client))

    def _retry_after_s(self, ticket: Ticket[K], reason: Refusal, now: float) -> float:
        """When to come back: by then those before it have gone ahead, or hard open is over."""
        policy = self.policy
        wait_s = self._wait_of(ticket)
        if reason is Refusal.SHEDDING:
            wait_s = self._wait_s(max(0, self._waiting - self._shedding.drained_at))
            wait_s = min(wait_s or math.inf, self._shedding.until - now)
        wait_s = wait_s or policy.unmeasured_retry_s
        return round(min(max(wait_s, policy.min_retry_s), policy.max_retry_s), 3)
