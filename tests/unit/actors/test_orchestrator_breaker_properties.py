"""The circuit breaker against a simple model of it, whatever calls do and whenever it is asked.

The model lives through every quarter of a second, keeps a list of its probes and carries those that
passed over into the next generation by hand. The breaker is asked now and then only.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, rule

from actors.orchestrator.breaker import CircuitBreaker
from actors.orchestrator.circuit import BreakerPolicy, BreakerState, Permit
from actors.orchestrator.verdicts import Verdict

QUARTER = 0.25
"""Exact in binary, so that the model and the breaker add up the same."""
CLOSED, OPEN, HALF_OPEN = BreakerState
SECONDS = st.integers(1, 6).map(lambda quarters: quarters * QUARTER)
POLICIES = st.builds(
    BreakerPolicy,
    failures=st.integers(1, 3),
    open_s=SECONDS,
    permits=st.integers(1, 3),
    probe_s=SECONDS,
    successes=st.integers(1, 3),
    slow_call_s=st.none() | SECONDS,
)


@dataclass(eq=False)
class Call:
    """What the model knows of one permit."""

    kind: str
    """ordinary, probe, passed or forced."""
    since: float
    current: bool = True
    """Its result counts."""
    over: bool = False


@dataclass
class Model:
    """A breaker by the book."""

    policy: BreakerPolicy
    now: float = 0.0
    state: BreakerState = CLOSED
    since: float = 0.0
    failures: int = 0
    successes: int = 0
    calls: list[Call] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)
    last: dict[Verdict, float] = field(default_factory=dict)
    moves: list[tuple[BreakerState, BreakerState, float]] = field(default_factory=list)

    def probes(self) -> list[Call]:
        return [c for c in self.calls if c.kind == "probe" and c.current and not c.over]

    def live(self, seconds: float) -> None:
        for _ in range(round(seconds / QUARTER)):
            self.now += QUARTER
            for probe in self.probes():
                if probe.current and self.now >= probe.since + self.policy.probe_s:
                    self.end(probe, Verdict.FAILURE)
            if self.state is OPEN and self.now >= self.since + self.policy.open_s:
                self.go(HALF_OPEN)

    def go(self, state: BreakerState) -> None:
        self.moves.append((self.state, state, self.now))
        for call in self.calls:
            call.current = call.current and call.kind == "passed" and state is CLOSED
            if call.current:
                call.kind = "ordinary"
        self.state, self.since, self.failures, self.successes = state, self.now, 0, 0

    def would_give(self) -> str | None:
        if self.state is CLOSED:
            return "ordinary"
        return "probe" if self.has_a_free_probe() else None

    def has_a_free_probe(self) -> bool:
        return self.state is HALF_OPEN and len(self.probes()) < self.policy.permits

    def begin(self, kind: str) -> Call:
        call = Call(kind, self.now, current=kind != "forced")
        self.calls.append(call)
        self.totals["granted"] += 1
        return call

    def text_flows(self, call: Call) -> None:
        if call in self.probes():
            call.kind = "passed"
            self.succeed()

    def succeed(self) -> None:
        self.successes += 1
        if self.successes == self.policy.successes:
            self.go(CLOSED)

    def end(self, call: Call, verdict: Verdict) -> None:
        if call.over:
            return
        call.over = True
        slow_s = self.policy.slow_call_s
        if verdict is Verdict.SUCCESS and slow_s is not None and self.now - call.since > slow_s:
            self.totals["slow"] += 1
            verdict = Verdict.FAILURE
        self.totals[verdict] += 1
        self.last[verdict] = self.now
        if not call.current or verdict is Verdict.IGNORED:
            return
        if verdict is Verdict.SUCCESS:
            if call.kind == "probe":
                self.succeed()
            elif call.kind == "ordinary":
                self.failures = max(0, self.failures - 1)
        elif self.state is HALF_OPEN:
            self.go(OPEN)
        else:
            self.failures += 1
            if self.failures == self.policy.failures:
                self.go(OPEN)


Pair = tuple[Permit, Call]


class Calls(RuleBasedStateMachine):
    """Calls that come, flow, end, end twice and are forgotten."""

    pairs: Bundle[Pair] = Bundle("pairs")

    @initialize(policy=POLICIES)
    def start(self, policy: BreakerPolicy) -> None:
        self.breaker = CircuitBreaker("engine", policy)
        self.model = Model(policy)
        self.moves = 0
        self.permits: list[Permit] = []

    @rule(seconds=SECONDS)
    def time_passes(self, seconds: float) -> None:
        self.model.live(seconds)

    @rule()
    def the_engine_goes_down_until_it_is_probed(self) -> None:
        """Without it most examples would never leave CLOSED."""
        while self.model.state is CLOSED:
            permit, call = self.given(self.breaker.force(self.model.now), "ordinary")
            self.breaker.release(permit, Verdict.FAILURE, self.model.now)
            self.model.end(call, Verdict.FAILURE)
        if self.model.state is OPEN:
            self.model.live(self.model.since + self.model.policy.open_s - self.model.now)

    @rule(target=pairs)
    def acquire(self) -> Pair:
        kind = self.model.would_give()
        permit = self.breaker.acquire(self.model.now)
        if permit is None:
            assert kind is None, "refused"
            self.model.totals["rejections"] += 1
            return multiple()  # type: ignore[return-value]
        assert kind is not None, "not refused"
        return self.given(permit, kind)

    @rule(target=pairs)
    def force(self) -> Pair:
        kind = self.model.would_give() or "forced"
        self.model.totals["forced"] += kind == "forced"
        return self.given(self.breaker.force(self.model.now), kind)

    def given(self, permit: Permit, kind: str) -> Pair:
        assert permit.probe == (kind == "probe")
        assert permit.forced == (kind == "forced")
        self.permits.append(permit)
        leased = [
            one
            for one in self.permits
            if one.generation == permit.generation and not one.released and one.probe
        ]
        assert len(leased) <= self.model.policy.permits
        return permit, self.model.begin(kind)

    @rule(pair=pairs)
    def text_flows(self, pair: Pair) -> None:
        permit, call = pair
        self.breaker.passed(permit, self.model.now)
        self.model.text_flows(call)

    @rule(pair=pairs, verdict=st.sampled_from(Verdict))
    def a_call_ends_perhaps_again(self, pair: Pair, verdict: Verdict) -> None:
        permit, call = pair
        late = not call.current
        before = self.breaker.metrics(self.model.now) if late else None
        self.breaker.release(permit, verdict, self.model.now)
        self.model.end(call, verdict)
        if before is not None:
            after = self.breaker.metrics(self.model.now)
            assert (after.state, after.generation) == (before.state, before.generation)
            assert after.failure_count == before.failure_count
            assert after.success_count == before.success_count

    @rule()
    def somebody_looks(self) -> None:
        now, model = self.model.now, self.model
        assert self.breaker.allows(now) == (model.would_give() is not None)
        assert (self.breaker.retry_after_s(now) == 0) == (model.would_give() is not None)
        assert 0 <= self.breaker.retry_after_s(now) <= max(
            model.policy.open_s, model.policy.probe_s
        )  # fmt: skip
        metrics = self.breaker.metrics(now)
        assert metrics.state is model.state
        assert metrics.generation == len(model.moves)
        assert (metrics.failure_count, metrics.success_count) == (model.failures, model.successes)
        assert metrics.probes_in_flight == len(model.probes()) <= model.policy.permits
        assert metrics.open_until == (
            model.since + model.policy.open_s if model.state is OPEN else None
        )
        assert [
            metrics.granted, metrics.successes, metrics.failures, metrics.ignored,
            metrics.rejections, metrics.forced, metrics.slow,
        ] == [
            model.totals[key]
            for key in ("granted", "success", "failure", "ignored", "rejections", "forced", "slow")
        ]  # fmt: skip
        assert metrics.last_success_at == model.last.get(Verdict.SUCCESS)
        assert metrics.last_failure_at == model.last.get(Verdict.FAILURE)
        out = sum(not permit.released for permit in self.permits)
        ended = metrics.successes + metrics.failures + metrics.ignored
        assert metrics.granted == ended + out, "a permit is unaccounted for"
        self.the_moves_are_told()

    def the_moves_are_told(self) -> None:
        for told in self.breaker.take_transitions():
            assert (told.before, told.after, told.at) == self.model.moves[self.moves]
            self.moves += 1
            assert told.generation == self.moves
        assert self.moves == len(self.model.moves)

    def teardown(self) -> None:
        """Whatever happened and was forgotten, it closes when all is well for a while."""
        if not hasattr(self, "model"):
            return
        self.somebody_looks()
        policy = self.model.policy
        now = self.model.now + policy.open_s + policy.probe_s
        for _ in range(policy.successes):
            permit = self.breaker.acquire(now)
            assert permit is not None, "it sticks"
            self.breaker.release(permit, Verdict.SUCCESS, now)
        assert self.breaker.metrics(now).state is CLOSED


TestCalls = Calls.TestCase
TestCalls.settings = settings(max_examples=150, stateful_step_count=50)
