"""The sections of the settings for how questions are answered: which engines, in what order, and
what is done when one of them fails; see `schema.py` for the rules.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from configs.fields import Section


class QuerySettings(Section):
    """What a query gets when it does not say otherwise."""

    deadline_s: float = Field(
        120,
        ge=0.01,
        le=86_400,
        description="Default deadline of a query in seconds. 120: a long answer of a small model "
        "on a slow CPU fits, a forgotten query does not hold a slot all day.",
    )
    max_continuations: int = Field(
        16,
        ge=0,
        le=1000,
        description="Engines that one answer may lose, whatever the reason, and go on with another "
        "or the next incarnation. 16: past the restart intensity the actor is `failed` anyway, so "
        "more would only hide a crash loop.",
    )
    max_deaths_in_a_row: int = Field(
        2,
        ge=1,
        le=1000,
        description="Deaths of engines and orchestrators in a row, with no new text between them, "
        "after which the query they died over ends with `poisoned`. 2: one may be chance, and a "
        "third try would end what all others need.",
    )
    abandoned_after_s: float = Field(
        30,
        ge=0,
        le=86_400,
        description="Seconds that the clients of a dead orchestrator have to come back for their "
        "answers; then what was accepted of them is ended. 30: they are back within one, and "
        "wait for a supervisor that is gone for 15.",
    )
    repetition_chars: int = Field(
        2048,
        ge=0,
        le=1_000_000,
        description="Characters of the same over and over after which an answer is ended, with "
        "the reason `repetition`; 0 never does. 2048: about as many tokens as the default longest "
        "answer, which nobody reads; a table or a list is shorter.",
    )
    engines: list[str] = Field(
        default_factory=lambda: ["gpu_engine", "cpu_engine"],
        description="Names of the engine actors, tried in this order. The GPU engine first, "
        "because it is faster where there is a GPU; the CPU engine runs on every machine.",
    )


class EngineBreakerSettings(Section):
    """The circuit breaker of each engine: when it is left alone for a while, and how it is tried
    again."""

    failures: int = Field(
        3,
        ge=1,
        le=1000,
        description="Failures that open it; a success takes one off the count. 3: one may be "
        "chance, two bad luck.",
    )
    open_s: float = Field(
        60,
        ge=0.01,
        le=86_400,
        description="Seconds that it stays open, before the engine is probed. 60: a driver or a "
        "GPU that was overheated needs some time, and another engine answers meanwhile.",
    )
    permits: int = Field(
        2,
        ge=1,
        le=1000,
        description="Probes that may be on their way at the same time. 2: as many as close it, so "
        "that it is closed at the first try, and no more answers have a seam if it is not.",
    )
    probe_s: float = Field(
        5,
        ge=0.05,
        le=3600,
        description="Seconds within which a probe must end or its text flow. 5: a GPU reads a long "
        "prompt in one, and whoever waits for the answer loses no more.",
    )
    successes: int = Field(
        2, ge=1, le=1000, description="Probes that close it. 2: one may be chance."
    )
    slow_call_s: float | None = Field(
        None,
        ge=0.01,
        le=86_400,
        description="Seconds after which an answer counts as a failure though it ended well. "
        "Unset: none does, as only its owner knows how long answers take on a machine.",
    )


class QueryBreakerSettings(Section):
    """The circuit breaker of queries as a whole: when nothing can be answered, that is said at
    once."""

    failures: int = Field(
        5,
        ge=1,
        le=1000,
        description="Failures that open it; a success takes one off the count. 5: engines have "
        "breakers of their own, so this many say that something else is wrong.",
    )
    open_s: float = Field(
        30,
        ge=0.01,
        le=86_400,
        description="Seconds that new queries are refused, before some are tried. 30: what is "
        "restarted is back within some seconds, and a person tries again after half a minute.",
    )
    permits: int = Field(
        2, ge=1, le=1000, description="Queries that may be tried at the same time. 2: as many as "
        "close it.",
    )  # fmt: skip
    probe_s: float = Field(
        120,
        ge=0.05,
        le=86_400,
        description="Seconds within which such a query must end or its text flow, its time in the "
        "queue included. 120: the default deadline, so that none is given up for having waited.",
    )
    successes: int = Field(
        2, ge=1, le=1000, description="Queries that close it. 2: one may be chance."
    )


class AdmissionSettings(Section):
    """The queue in front of the engines: who waits, who goes first, and who is refused."""

    max_waiting: int = Field(
        100,
        ge=0,
        le=100_000,
        description="Queries that may wait; the next one is refused with `overloaded`. 100: more "
        "than that would mostly miss their deadline while waiting.",
    )
    longest_wait_s: float = Field(
        120,
        ge=0.1,
        le=86_400,
        description="Seconds within which all that wait should have had their turn, at the rate "
        "that is measured; fewer may wait where that is slow. 120: the default deadline.",
    )
    drop_mode: Literal["low", "oldest", "all"] = Field(
        "low",
        description="Who gives way when the queue is full: low, a younger one of lower priority; "
        "oldest, who waits longest; all, everybody but the critical. low: what was asked for "
        "first is kept, unless something more urgent comes.",
    )
    ageing_s: float = Field(
        10,
        ge=0.1,
        le=86_400,
        description="Seconds of waiting after which a query counts as one priority higher, up to "
        "high. 10: low ones have their turn after 20, even where normal ones never end.",
    )
    hard_open_rejections: int = Field(
        5,
        ge=1,
        le=100_000,
        description="Rejections within the window after which low and normal queries are refused "
        "until the queue has drained. 5: a burst of two or three is no overload.",
    )
    hard_open_window_s: float = Field(
        10,
        ge=0.1,
        le=3600,
        description="That window in seconds. 10: about as long as an answer takes.",
    )
    hard_open_s: float = Field(
        60,
        ge=0.1,
        le=86_400,
        description="Seconds after which they are taken again in any case. 60: a client that was "
        "told to come back in a minute does.",
    )
    drain_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of those that waited, without unit, at which they are taken again. 0.5: "
        "at the edge it would be over and begin again, and an empty queue leaves engines idle.",
    )


class WatchdogSettings(Section):
    """How long an engine may be silent while it works on an answer, until whoever asked gives it up
    and another goes on."""

    load_s: float = Field(
        600,
        ge=0.1,
        le=86_400,
        description="Seconds without a sign while a model is loaded for a request. 600: a large "
        "one comes from a slow disk, and a process that hangs over it is found by the supervisor.",
    )
    prefill_s: float = Field(
        60,
        ge=0.1,
        le=86_400,
        description="Most seconds for one batch of a prompt, and as many as long as the engine's "
        "speed is not known. 60: 256 tokens of a large model on a slow CPU take half of it.",
    )
    decode_s: float = Field(
        20,
        ge=0.1,
        le=86_400,
        description="Most seconds between two pieces of text, and as many as long as the engine's "
        "speed is not known. 20: nobody reads text that comes slower than that.",
    )
    min_s: float = Field(
        3,
        ge=0.05,
        le=3600,
        description="Seconds that every step may take, however fast the engine was. 3: a busy "
        "machine lets a process wait for one now and then.",
    )
    slow_factor: float = Field(
        20,
        ge=1,
        le=100_000,
        description="How many times as long as the longest step seen lately the next may take. "
        "20: prompts of others, read in between, make a step some ten times as long.",
    )
