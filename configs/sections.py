"""The sections of the settings for the system as a whole; see `schema.py` for the rules."""

from __future__ import annotations

import re
from pathlib import Path

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
    def files_folder(self) -> Path:
        """Stored files, a folder for each actor that has some."""
        return self.folder / "files"

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
        description="Seconds within which the spawner must answer before it is replaced; those in "
        "which it was starved or waited for a disk do not count. 3: a fork takes milliseconds, so "
        "this is already a stopped or lost process.",
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
