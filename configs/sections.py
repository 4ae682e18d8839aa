"""The sections of the settings for the system as a whole; see `schema.py` for the rules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from configs.checks import MAX_PORT
from configs.fields import RELOADS, LocalPath, Section, default_data_folder, wrong
from configs.profiles import WantedProfile
from protocol.endpoints import HOST, REMOTE, xdg_run_folder
from protocol.errors import NotAllowed
from protocol.keyfiles import SERVER_FOLDER


class RunSettings(Section):
    """Where the sockets of the running processes are."""

    folder: LocalPath = Field(
        default_factory=xdg_run_folder,
        description="Folder of the sockets, kept private (0700). $XDG_RUNTIME_DIR/noyau, because "
        "that folder is per user and emptied at logout; else /tmp/noyau-<uid>, which is short "
        "enough for a local socket.",
    )


_ADDRESS = re.compile(rf"{REMOTE}({HOST}|\*):[0-9]{{1,5}}")


class DataSettings(Section):
    """Where everything that outlives a run is."""

    folder: LocalPath = Field(
        default_factory=default_data_folder,
        description="Folder of assets, databases and logs. $XDG_DATA_HOME/noyau, else "
        "~/.local/share/noyau: where desktop systems expect a program's data.",
    )

    @property
    def assets_folder(self) -> Path:
        """Model files and other verified assets."""
        return self.folder / "assets"

    @property
    def logs_folder(self) -> Path:
        """One log file for each process, and one for what it or a library prints."""
        return self.folder / "logs"

    @property
    def keys_folder(self) -> Path:
        """This noyau's own key, and the list of those that may come in from other machines."""
        return self.folder / SERVER_FOLDER

    def output_path(self, name: str) -> Path:
        """What an actor or a library in it prints, as JSON lines: the supervisor writes them, and
        two processes must not put one file aside."""
        return self.logs_folder / f"{name}.out.jsonl"


class LogSettings(Section):
    """How much of the logs is kept."""

    max_file_mib: float = Field(
        10,
        ge=0.01,
        le=100_000,
        description="Size in MiB at which a log file is put aside and a new one begun. 10: some "
        "ten thousand lines, which any editor opens.",
    )
    kept_files: int = Field(
        3,
        ge=0,
        le=1000,
        description="Files of each process that are kept when they have been put aside. 3: weeks "
        "of a quiet system, and no disk that fills up with a noisy one.",
    )


class RemoteSettings(Section):
    """Whether other machines may come in, by TCP and with a key."""

    listen: str = Field(
        "",
        description="Address to listen to other machines at, as tcp://ADDRESS:PORT: the "
        "supervisor takes that port, and each actor one of the next ones, in the order of the "
        "actors. Whoever comes needs a key (`noyau keys`), and all is encrypted. Empty: nobody is "
        "listened to, as a fresh system should be its owner's alone.",
    )

    @field_validator("listen")
    @classmethod
    def _is_an_address(cls, listen: str) -> str:
        if listen and not _ADDRESS.fullmatch(listen):
            raise wrong(
                f"{listen!r} is no address to listen at",
                "write tcp://ADDRESS:PORT with an address of this machine, such as "
                "tcp://192.168.1.20:5570, tcp://[::1]:5570, or tcp://*:5570 for all of them",
            )
        if listen and not 1 <= int(listen.rpartition(":")[2]) <= MAX_PORT:
            raise wrong(f"{listen!r} has no port that exists", f"take one from 1 to {MAX_PORT}")
        return listen

    @property
    def port(self) -> int:
        """The supervisor's port; only where `listen` is not empty."""
        return int(self.listen.rpartition(":")[2])

    def endpoint(self, offset: int) -> str:
        """Where the supervisor listens (0), or the actor of this number from 1; else empty."""
        host = self.listen.rpartition(":")[0]
        return f"{host}:{self.port + offset}" if self.listen else ""


class DeviceSettings(Section):
    """What is expected of this machine."""

    profile: WantedProfile = Field(
        "auto",
        description="full: a GPU and the CPU; lite: the CPU alone; micro: no language model, "
        "answers come from tools and memory. auto, because memory, cores and accelerator can be "
        "looked at: micro below 1 GiB of memory, full where the GPU engine finds a GPU that it "
        "can use and there are two cores, else lite.",
    )


class SupervisorSettings(Section):
    """How processes are started, watched and stopped."""

    heartbeat_interval_s: float = Field(
        0.25,
        ge=0.01,
        le=60,
        description="Seconds between two heartbeats of an actor. 0.25: a person sees a change of "
        "health at once, and four small messages a second cost nothing.",
    )
    heartbeat_missed_after_s: float = Field(
        2.0,
        json_schema_extra=RELOADS,
        ge=0.05,
        le=600,
        description="Age in seconds of the last heartbeat after which an actor is shown as "
        "unhealthy. 2: eight missed in a row, more than a busy machine delays them.",
    )
    start_timeout_s: float = Field(
        20,
        json_schema_extra=RELOADS,
        ge=0.1,
        le=3600,
        description="Seconds from spawn to an actor's first hello, before it loads anything. 20: "
        "importing the libraries takes a second warm, and ten from a cold, slow disk. Loading a "
        "model comes after the hello and has no limit.",
    )
    drain_timeout_s: float = Field(
        5,
        json_schema_extra=RELOADS,
        ge=0,
        le=3600,
        description="Seconds an actor has from SIGTERM to SIGKILL to finish or hand back its "
        "work. 5: below the 10 that service managers commonly give the whole program.",
    )
    spawn_timeout_s: float = Field(
        3,
        json_schema_extra=RELOADS,
        ge=0.1,
        le=600,
        description="Seconds within which the spawner must answer before it is replaced. 3: a "
        "fork takes milliseconds, so this is already a stopped or lost process.",
    )


class HealthSettings(Section):
    """When an actor that runs counts as degraded or unhealthy."""

    window_s: float = Field(
        30,
        json_schema_extra=RELOADS,
        ge=1,
        le=3600,
        description="Seconds that failures are remembered for. 30: long enough for a rate that "
        "means something, short enough that what was mended shows within a minute.",
    )
    min_calls: int = Field(
        10,
        json_schema_extra=RELOADS,
        ge=1,
        le=1_000_000,
        description="Requests within the window below which no error rate counts. 10: with fewer, "
        "a single failure would be a tenth.",
    )
    failures_in_a_row: int = Field(
        3,
        json_schema_extra=RELOADS,
        ge=1,
        le=1_000_000,
        description="Failures in a row that make an actor unhealthy. 3: one may be chance, two bad "
        "luck.",
    )
    degraded_error_rate: float = Field(
        0.1,
        json_schema_extra=RELOADS,
        gt=0,
        le=1,
        description="Share of failed requests, without unit, from which on an actor is degraded. "
        "0.1: users notice one failure in ten.",
    )
    unhealthy_error_rate: float = Field(
        0.2,
        json_schema_extra=RELOADS,
        gt=0,
        le=1,
        description="Share of failed requests, without unit, above which an actor is unhealthy. "
        "0.2: at one in five it is better not asked where there is another.",
    )
    queue_depth: int = Field(
        50,
        json_schema_extra=RELOADS,
        ge=1,
        le=1_000_000,
        description="Requests that wait inside an actor, such as for an engine slot, from which on "
        "it is degraded. 50: half of those that may wait before the next is refused.",
    )
    loop_lag_s: float = Field(
        1,
        json_schema_extra=RELOADS,
        ge=0.001,
        le=3600,
        description="Seconds that an event loop may be late before the actor is degraded. 1: "
        "people notice it, and a busy machine stays below.",
    )


class HangSettings(Section):
    """When a process that lives but does not get on is taken for hung, and ended."""

    look_interval_s: float = Field(
        0.1,
        json_schema_extra=RELOADS,
        ge=0.01,
        le=10,
        description="Seconds between two looks at every process. 0.1: a process that was stopped "
        "is back within half a second, and a look costs some microseconds.",
    )
    idle_s: float = Field(
        5,
        json_schema_extra=RELOADS,
        ge=0.1,
        le=3600,
        description="Seconds that the event loop of an actor may stand still while it waits for "
        "work. 5: it turns four times a second, and a busy machine delays it by one at most.",
    )
    loading_s: float = Field(
        120,
        json_schema_extra=RELOADS,
        ge=0.1,
        le=86_400,
        description="Seconds that a loading actor may show no sign: no turn of its loop, no "
        "progress, no page of memory touched for the first time. 120: reading a large model from "
        "a slow disk touches pages all the time.",
    )
    working_s: float = Field(
        120,
        json_schema_extra=RELOADS,
        ge=0.1,
        le=86_400,
        description="Seconds that work may not get on while it computes. 120: a step of a large "
        "model on a slow CPU, a batch of its prompt, takes some tens of seconds.",
    )
    stuck_s: float = Field(
        15,
        json_schema_extra=RELOADS,
        ge=0.1,
        le=86_400,
        description="Seconds that work may not get on while it does not compute either, or the "
        "event loop may stand still meanwhile. 15: who works neither waits nor sleeps for so "
        "long, and all that computes lets the loop turn.",
    )
    slow_factor: float = Field(
        50,
        json_schema_extra=RELOADS,
        ge=1,
        le=100_000,
        description="How many times as long as the longest step so far a step may take while it "
        "computes, within stuck_s and working_s. 50: a step of a long prompt takes some tens of "
        "times as long as one of an answer, which may be all that was seen so far.",
    )
    cancel_s: float = Field(
        1,
        json_schema_extra=RELOADS,
        ge=0,
        le=3600,
        description="Seconds that an actor whose work is stuck, though its event loop turns, has "
        "to get on after it was asked to give that work up; then it is asked to end. 1: giving up "
        "takes milliseconds, where it can be done at all.",
    )
    term_s: float = Field(
        0.5,
        json_schema_extra=RELOADS,
        ge=0,
        le=3600,
        description="Seconds from SIGTERM to SIGKILL for a process that hangs. 0.5: one whose loop "
        "turns hands back what it works on at once, any other will not react at all.",
    )


class RestartSettings(Section):
    """When a process that died is started again, and when no longer (restart intensity)."""

    backoff_first_s: float = Field(
        0.1,
        json_schema_extra=RELOADS,
        ge=0.001,
        le=3600,
        description="Seconds before the second restart in a row; the first is immediate. 0.1: "
        "long enough not to spin, too short to be noticed.",
    )
    backoff_factor: float = Field(
        2,
        json_schema_extra=RELOADS,
        ge=1,
        le=10,
        description="How many times longer each further wait is. 2: the usual doubling, which "
        "reaches the longest wait in seven steps.",
    )
    backoff_max_s: float = Field(
        10,
        json_schema_extra=RELOADS,
        ge=0.001,
        le=3600,
        description="Longest wait in seconds. 10: whoever has mended the cause does not want to "
        "wait longer for the next try.",
    )
    stable_s: float = Field(
        1.0,
        json_schema_extra=RELOADS,
        ge=0,
        le=3600,
        description="Seconds an incarnation must have been READY to count as stable, so that its "
        "next restart is immediate again. 1: a crash at load shows itself earlier.",
    )
    max_restarts: int = Field(
        8,
        json_schema_extra=RELOADS,
        ge=0,
        le=10_000,
        description="Restarts allowed within the window; one more and the actor is `failed`. 8: "
        "repeated kills by a test or a tight memory limit pass, a crash loop does not.",
    )
    window_s: float = Field(
        30,
        json_schema_extra=RELOADS,
        ge=0.1,
        le=86_400,
        description="Length in seconds of the window in which restarts are counted. 30: longer "
        "than eight restarts with the default backoff take to be seen as one crash loop.",
    )


class LimitSettings(Section):
    """Bounds of what one peer may send or hold open."""

    max_frame_bytes: int = Field(
        8 * 1024 * 1024,
        ge=64 * 1024,
        le=1024 * 1024 * 1024,
        description="Largest frame in bytes that a process accepts. 8 MiB: any prompt fits many "
        "times over, and a wrong length cannot exhaust memory.",
    )
    max_open_conversations_per_peer: int = Field(
        1024,
        ge=1,
        le=1_000_000,
        description="Open requests and streams one peer may hold at one actor. 1024: a busy "
        "gateway stays far below it, a leaking client is stopped.",
    )


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


class ChaosSettings(Section):
    """Whether faults may be put into the running system on purpose (`noyau chaos`)."""

    allowed: bool = Field(
        False,
        description="true lets whoever may operate this noyau kill, stop and disturb its processes "
        "with `noyau chaos`. false, because a system that people rely on is no place to try that.",
    )

    def check(self) -> None:
        """Raises `NotAllowed`, which says how to allow it."""
        if not self.allowed:
            raise NotAllowed(
                "faults are not allowed here: start noyau with --set chaos.allowed=true, on a "
                "system that nobody relies on"
            )
