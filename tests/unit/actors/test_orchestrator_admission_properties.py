"""The admission queue against callers who do anything at any time."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.orchestrator.admission import AdmissionQueue
from actors.orchestrator.admission_terms import (
    AdmissionPolicy,
    Capacity,
    Decision,
    DropMode,
    Ticket,
)
from protocol.envelope import Priority
from protocol.errors import DeadlineExceeded, Overloaded

AGEING_S = 10.0
TOKENS = 100
MAX_WAITING = 5


@dataclass
class Known:
    """A ticket as its owner knows it."""

    priority: Priority
    client: str
    cost: int
    entered: float
    deadline: float | None

    def rank(self, now: float) -> int:
        """Its class by its age."""
        if self.priority is Priority.CRITICAL:
            return Priority.CRITICAL
        # As the queue does it: multiplied, as a division may be off by a bit.
        steps = sum(now >= self.entered + AGEING_S * step for step in (1, 2))
        return max(Priority.HIGH, self.priority - steps)


class Callers(RuleBasedStateMachine):
    """Those who enter, leave and give up, and what each of them was told."""

    @initialize(
        mode=st.sampled_from(DropMode),
        slots=st.integers(1, 4),
        rejections=st.sampled_from([2, 1_000_000]),
    )
    def begin(self, mode: DropMode, slots: int, rejections: int) -> None:
        policy = AdmissionPolicy(
            max_waiting=MAX_WAITING,
            drop_mode=mode,
            ageing_s=AGEING_S,
            hard_open_rejections=rejections,
        )
        self.capacity = Capacity(slots, TOKENS)
        self.queue: AdmissionQueue[int] = AdmissionQueue(policy, self.capacity)
        self.now = 0.0
        self.waiting: dict[int, Known] = {}
        self.running: dict[int, Known] = {}
        self.known: dict[int, Known] = {}
        """All that ever came."""
        self.taken_in = self.over = self.refused = 0
        self.numbers = 0

    # --- what they do -----------------------------------------------------------------------

    @rule(
        newcomers=st.lists(
            st.tuples(
                st.sampled_from(Priority),
                st.sampled_from("ab"),
                st.sampled_from([1, 10, 20, 60, 120]),
                st.sampled_from([None, 1.0, 5.0, 30.0]),
            ),
            min_size=1,
            max_size=4,
        )
    )
    def enter(self, newcomers: list[tuple[Priority, str, int, float | None]]) -> None:
        for priority, client, cost, patience in newcomers:
            self.numbers = key = self.numbers + 1
            deadline = None if patience is None else self.now + patience
            known = Known(priority, client, cost, self.now, deadline)
            self.waiting[key] = self.known[key] = known
            ticket = Ticket(key, priority, client, cost, deadline)
            decision = self.do(self.queue.enter(ticket, self.now), newcomer=key)
            dropped = dict(decision.dropped)
            if key in dropped:
                self.over -= 1
                self.refused += 1
            else:
                self.taken_in += 1
            for other, error in dropped.items():
                full = error.details.get("reason") == "full"
                critical = self.known[other].priority is Priority.CRITICAL
                assert not (full and critical) or other == key, "critical work was displaced"
            self.everybody_is_accounted_for()

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 100))
    def leave(self, which: int) -> None:
        key = list(self.running)[which % len(self.running)]
        del self.running[key]
        self.over += 1
        self.do(self.queue.leave(key, self.now))

    @precondition(lambda self: self.running or self.waiting)
    @rule(which=st.integers(0, 100))
    def abandon(self, which: int) -> None:
        inside = [*self.waiting, *self.running]
        key = inside[which % len(inside)]
        (self.waiting if key in self.waiting else self.running).pop(key)
        self.over += 1
        self.do(self.queue.abandon(key, self.now))

    @rule(key=st.integers(1_000_000))
    def abandon_what_is_not_inside(self, key: int) -> None:
        self.do(self.queue.abandon(key, self.now))

    @rule(slots=st.sampled_from([0, 1, 2, 3, 4, 4, 4]))
    def resize(self, slots: int) -> None:
        self.capacity = Capacity(slots, TOKENS)
        self.do(self.queue.resize(self.capacity, self.now))

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 60.0]))
    def time_passes_unnoticed(self, seconds: float) -> None:
        self.now += seconds

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 5.0, 10.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.do(self.queue.tick(self.now))
        late = [k for k, t in self.waiting.items() if t.deadline and t.deadline <= self.now]
        assert not late, "nobody waits past its deadline"

    # --- what they are told -------------------------------------------------------------------

    def do(self, decision: Decision[int], newcomer: int = 0) -> Decision[int]:
        """Carry it out, and look at each step of it. What time has brought comes before a
        ``newcomer``."""
        events = self.queue.take_events()
        is_open = self.queue.metrics().hard_open_until is not None
        for key, error in decision.dropped:
            ticket = self.waiting.pop(key)
            self.over += 1
            if isinstance(error, Overloaded):
                assert 0.1 <= error.details["retry_after_s"] <= 60
            else:
                assert isinstance(error, DeadlineExceeded)
                assert ticket.deadline is not None
                assert ticket.deadline <= self.now
        for key in decision.ahead:
            ticket = self.waiting.pop(key)
            self.running[key] = ticket
            rank = ticket.rank(self.now)
            before = [
                t for k, t in self.waiting.items() if k != newcomer and t.rank(self.now) < rank
            ]
            assert not before, "somebody of a higher class waits, which may be critical"
            same = [
                other
                for other, t in self.waiting.items()
                if (t.priority, t.client) == (ticket.priority, ticket.client) and other < key
            ]
            assert not same, "somebody was overtaken by one like itself"
            assert len(self.running) <= self.capacity.slots
            costs = sum(t.cost for t in self.running.values())
            assert costs <= TOKENS or len(self.running) == 1
            if is_open and not events and rank and self.capacity.slots >= 2:
                assert len(self.running) < self.capacity.slots, "no slot is kept"
        self.nobody_waits_for_nothing(is_open)
        return decision

    @invariant()
    def everybody_is_accounted_for(self) -> None:
        seen = self.queue.metrics()
        assert (sum(seen.waiting.values()), seen.running) == (len(self.waiting), len(self.running))
        assert sum(seen.waiting.values()) <= MAX_WAITING
        over = seen.finished + seen.dropped + seen.abandoned + seen.expired
        assert over == self.over
        assert seen.entered == self.taken_in == over + len(self.waiting) + len(self.running)
        assert sum(seen.refused.values()) == self.refused
        assert seen.tokens == sum(t.cost for t in self.running.values())

    def nobody_waits_for_nothing(self, is_open: bool) -> None:
        """Of the highest class that waits, one at least does not fit."""
        if not self.waiting:
            return
        assert self.running or not self.capacity.slots, "they wait beside idle engines"
        highest = min(t.rank(self.now) for t in self.waiting.values())
        slots, tokens = self.capacity.slots, float(TOKENS)
        if is_open and highest and slots >= 2:
            slots, tokens = slots - 1, tokens * (slots - 1) / slots
        left = tokens - sum(t.cost for t in self.running.values())
        costs = [t.cost for t in self.waiting.values() if t.rank(self.now) == highest]
        assert len(self.running) >= slots or max(costs) > left, "they wait beside a free slot"

    def teardown(self) -> None:
        """In the end everybody has been let through or told."""
        if not hasattr(self, "queue"):
            return
        self.resize(2)
        while self.running:
            self.leave(0)
            self.everybody_is_accounted_for()
        assert not self.waiting
        self.time_passes(61.0)
        assert self.queue.next_tick is None
        assert self.queue.metrics().hard_open_until is None
        assert self.queue._tokens == 0


Callers.TestCase.settings = settings(max_examples=300, stateful_step_count=40)
TestCallers = Callers.TestCase


@settings(max_examples=100)
@given(
    st.sampled_from(DropMode),
    st.lists(
        st.lists(
            st.tuples(st.sampled_from([Priority.HIGH, Priority.NORMAL]), st.integers(0, 20)),
            min_size=1,
            max_size=3,
        ),
        min_size=40,
        max_size=40,
    ),
)
def test_low_work_is_never_starved(
    mode: DropMode, arrivals: list[list[tuple[Priority, int]]]
) -> None:
    """Whatever comes, one second's work each second on one slot: after 20 s it is of class HIGH,
    where at most all others that wait then go before it. Or it was told."""
    policy = AdmissionPolicy(
        max_waiting=MAX_WAITING, drop_mode=mode, hard_open_rejections=1_000_000
    )
    queue: AdmissionQueue[str] = AdmissionQueue(policy, Capacity(1))
    queue.enter(Ticket("first"), 0.0)
    running = "first"
    queue.enter(Ticket("low", Priority.LOW, "patient"), 0.0)
    for second, batch in enumerate(arrivals, start=1):
        for number, (priority, client) in enumerate(batch):
            decision = queue.enter(Ticket(f"{second}.{number}", priority, client), float(second))
            if "low" in dict(decision.dropped):
                return
        decision = queue.leave(running, float(second))
        if "low" in dict(decision.dropped):
            return
        [running] = decision.ahead
        if running == "low":
            return
        assert second <= 2 * AGEING_S + MAX_WAITING
