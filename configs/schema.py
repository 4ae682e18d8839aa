"""The one description of every setting: its type, unit, bounds, default and the reason for it.

All models are frozen, refuse names they do not know and convert nothing silently: ``true`` is no
number and ``"2"`` is no 2. Where a value may come from, and in which order, is told in `load.py`;
the rules that span more than one setting are in `checks.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from configs.actor_settings import (
    EngineSettings,
    MemorySettings,
    OrchestratorSettings,
    StorageSettings,
    ToolSettings,
)
from configs.checks import ActorView, CrossProblem, check_actors, check_numbers
from configs.fields import (
    ActorName,
    ClassPath,
    LocalPath,
    Section,
    default_data_folder,
    wrong,
)
from configs.profiles import WantedProfile
from protocol.endpoints import xdg_run_folder


class RunSettings(Section):
    """Where the sockets of the running processes are."""

    folder: LocalPath = Field(
        default_factory=xdg_run_folder,
        description="Folder of the sockets, kept private (0700). $XDG_RUNTIME_DIR/noyau, because "
        "that folder is per user and emptied at logout; else /tmp/noyau-<uid>, which is short "
        "enough for a local socket.",
    )


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
        """One log file for each process."""
        return self.folder / "logs"


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
        ge=0.05,
        le=600,
        description="Age in seconds of the last heartbeat after which an actor is shown as "
        "unhealthy. 2: eight missed in a row, more than a busy machine delays them.",
    )
    start_timeout_s: float = Field(
        20,
        ge=0.1,
        le=3600,
        description="Seconds from spawn to an actor's first hello, before it loads anything. 20: "
        "importing the libraries takes a second warm, and ten from a cold, slow disk. Loading a "
        "model comes after the hello and has no limit.",
    )
    drain_timeout_s: float = Field(
        5,
        ge=0,
        le=3600,
        description="Seconds an actor has from SIGTERM to SIGKILL to finish or hand back its "
        "work. 5: below the 10 that service managers commonly give the whole program.",
    )
    spawn_timeout_s: float = Field(
        3,
        ge=0.1,
        le=600,
        description="Seconds within which the spawner must answer before it is replaced. 3: a "
        "fork takes milliseconds, so this is already a stopped or lost process.",
    )


class HealthSettings(Section):
    """When an actor that runs counts as degraded or unhealthy."""

    window_s: float = Field(
        30,
        ge=1,
        le=3600,
        description="Seconds that failures are remembered for. 30: long enough for a rate that "
        "means something, short enough that what was mended shows within a minute.",
    )
    min_calls: int = Field(
        10,
        ge=1,
        le=1_000_000,
        description="Requests within the window below which no error rate counts. 10: with fewer, "
        "a single failure would be a tenth.",
    )
    failures_in_a_row: int = Field(
        3,
        ge=1,
        le=1_000_000,
        description="Failures in a row that make an actor unhealthy. 3: one may be chance, two bad "
        "luck.",
    )
    degraded_error_rate: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Share of failed requests, without unit, from which on an actor is degraded. "
        "0.1: users notice one failure in ten.",
    )
    unhealthy_error_rate: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Share of failed requests, without unit, above which an actor is unhealthy. "
        "0.2: at one in five it is better not asked where there is another.",
    )
    loop_lag_s: float = Field(
        1,
        ge=0.001,
        le=3600,
        description="Seconds that an event loop may be late before the actor is degraded. 1: "
        "people notice it, and a busy machine stays below.",
    )


class HangSettings(Section):
    """When a process that lives but does not get on is taken for hung, and ended."""

    look_interval_s: float = Field(
        0.1,
        ge=0.01,
        le=10,
        description="Seconds between two looks at every process. 0.1: a process that was stopped "
        "is back within half a second, and a look costs some microseconds.",
    )
    idle_s: float = Field(
        5,
        ge=0.1,
        le=3600,
        description="Seconds that the event loop of an actor may stand still while it waits for "
        "work. 5: it turns four times a second, and a busy machine delays it by one at most.",
    )
    loading_s: float = Field(
        120,
        ge=0.1,
        le=86_400,
        description="Seconds that a loading actor may show no sign: no turn of its loop, no "
        "progress, no page of memory touched for the first time. 120: reading a large model from "
        "a slow disk touches pages all the time.",
    )
    working_s: float = Field(
        120,
        ge=0.1,
        le=86_400,
        description="Seconds that work may not get on while it computes. 120: a step of a large "
        "model on a slow CPU, a batch of its prompt, takes some tens of seconds.",
    )
    stuck_s: float = Field(
        15,
        ge=0.1,
        le=86_400,
        description="Seconds that work may not get on while it does not compute either, or the "
        "event loop may stand still meanwhile. 15: who works neither waits nor sleeps for so "
        "long, and all that computes lets the loop turn.",
    )
    term_s: float = Field(
        0.5,
        ge=0,
        le=3600,
        description="Seconds from SIGTERM to SIGKILL for a process that hangs. 0.5: one whose loop "
        "turns hands back what it works on at once, any other will not react at all.",
    )


class RestartSettings(Section):
    """When a process that died is started again, and when no longer (restart intensity)."""

    backoff_first_s: float = Field(
        0.1,
        ge=0.001,
        le=3600,
        description="Seconds before the second restart in a row; the first is immediate. 0.1: "
        "long enough not to spin, too short to be noticed.",
    )
    backoff_factor: float = Field(
        2,
        ge=1,
        le=10,
        description="How many times longer each further wait is. 2: the usual doubling, which "
        "reaches the longest wait in seven steps.",
    )
    backoff_max_s: float = Field(
        10,
        ge=0.001,
        le=3600,
        description="Longest wait in seconds. 10: whoever has mended the cause does not want to "
        "wait longer for the next try.",
    )
    stable_s: float = Field(
        1.0,
        ge=0,
        le=3600,
        description="Seconds an incarnation must have been READY to count as stable, so that its "
        "next restart is immediate again. 1: a crash at load shows itself earlier.",
    )
    max_restarts: int = Field(
        8,
        ge=0,
        le=10_000,
        description="Restarts allowed within the window; one more and the actor is `failed`. 8: "
        "repeated kills by a test or a tight memory limit pass, a crash loop does not.",
    )
    window_s: float = Field(
        30,
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
        description="Engine deaths one answer survives by being continued. 16: past the restart "
        "intensity the engine is `failed` anyway, so more would only hide a crash loop.",
    )
    max_waiting: int = Field(
        100,
        ge=0,
        le=100_000,
        description="Queries that may wait for an engine slot; the next one is refused with "
        "`overloaded`. 100: more than that would mostly miss their deadline while waiting.",
    )
    abandoned_after_s: float = Field(
        30,
        ge=0,
        le=86_400,
        description="Seconds that the clients of a dead orchestrator have to come back for their "
        "answers; then what was accepted of them is ended. 30: they are back within one, and "
        "wait for a supervisor that is gone for 15.",
    )
    engines: list[str] = Field(
        default_factory=lambda: ["gpu_engine", "cpu_engine"],
        description="Names of the engine actors, tried in this order. The GPU engine first, "
        "because it is faster where there is a GPU; the CPU engine runs on every machine.",
    )


ACTOR_SETTINGS: dict[str, type[BaseModel]] = {
    "actors.storage:Storage": StorageSettings,
    "actors.engine:Engine": EngineSettings,
    "actors.orchestrator:Orchestrator": OrchestratorSettings,
    "actors.memory:Memory": MemorySettings,
    "actors.tool_user:ToolUser": ToolSettings,
}
"""The model of each built-in actor's `settings`. Any other class validates its own."""


class ActorEntry(Section):
    """One process: which class it runs, what it needs first, and when it is restarted.

    ``settings`` are plain values (text for a path), complete with defaults for a class that
    ``ACTOR_SETTINGS`` knows, and as they were given for any other.
    """

    class_path: ClassPath = Field(
        alias="class",
        description="The actor's class as `package.module:Class`. No default: the entry is "
        "there to name it.",
    )
    enabled: bool = Field(
        True,
        description="false leaves the actor out as if it had no entry. true, because an entry "
        "is written to be used.",
    )
    needs: list[str] = Field(
        default_factory=list,
        description="Names of the actors that must be READY before this one is started. Empty: "
        "most need nothing.",
    )
    uses: list[str] = Field(
        default_factory=list,
        description="Names of the actors that this one asks while it works: it does not wait for "
        "them at its start, and is stopped before them, so that what it works on can be finished. "
        "Those that are switched off are passed over. Empty: most ask nobody.",
    )
    restart: Literal["permanent", "transient", "temporary"] = Field(
        "permanent",
        description="permanent: always started again; transient: only after a crash; temporary: "
        "never. permanent, because an actor is meant to be there.",
    )
    memory_mib: float | None = Field(
        None,
        ge=1,
        le=16_777_216,
        description="Resident memory in MiB above which the actor is drained and started again. "
        "Unset: no ceiling, as what a model needs only its owner knows.",
    )
    preload: bool = Field(
        False,
        description="Whether the process that starts actors imports the class ahead, "
        "which makes a restart some ten milliseconds faster; what changes in its files is then "
        "seen only by the next start of the system. A class whose import fails, crashes or "
        "starts a thread is left out. false, for classes that are being written.",
    )
    settings: dict[str, Any] = Field(
        default_factory=dict,
        validate_default=True,
        description="The actor's own settings, described by its class. Empty: all its defaults.",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, data: Any) -> Any:
        # Python code says class_path, files say class; with both, one would be ignored silently.
        if isinstance(data, dict) and {"class", "class_path"} <= data.keys():
            raise wrong("class and class_path are the same setting", "write class alone")
        return data

    @field_validator("settings", mode="after")
    @classmethod
    def _fits_its_class(cls, settings: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        model = ACTOR_SETTINGS.get(info.data.get("class_path", ""))
        return settings if model is None else model.model_validate(settings).model_dump(mode="json")


class Settings(Section):
    """All settings. ``actors`` holds the enabled ones only.

    Raises pydantic's ``ValidationError``; `load_settings` turns that into `InvalidSettings`.
    """

    run: RunSettings = Field(default_factory=RunSettings, description="The run folder.")
    data: DataSettings = Field(default_factory=DataSettings, description="The data folder.")
    logs: LogSettings = Field(default_factory=LogSettings, description="The log files.")
    device: DeviceSettings = Field(
        default_factory=DeviceSettings, description="The device profile."
    )
    supervisor: SupervisorSettings = Field(
        default_factory=SupervisorSettings, description="Starting, watching and stopping."
    )
    health: HealthSettings = Field(
        default_factory=HealthSettings, description="When an actor is degraded or unhealthy."
    )
    hang: HangSettings = Field(
        default_factory=HangSettings, description="When a process is taken for hung."
    )
    restart: RestartSettings = Field(
        default_factory=RestartSettings, description="Backoff and restart intensity."
    )
    limits: LimitSettings = Field(default_factory=LimitSettings, description="Protocol limits.")
    query: QuerySettings = Field(default_factory=QuerySettings, description="Query defaults.")
    actors: dict[ActorName, ActorEntry] = Field(description="The processes, by name.")

    @property
    def gpu_engines(self) -> list[str]:
        """The engines that are meant for a GPU."""
        actors = self.actors
        return [name for name in self.query.engines if actors[name].settings.get("device") == "gpu"]

    @property
    def gpu_is_simulated(self) -> bool:
        """Whether one of those only stands in for an engine on a GPU."""
        engines = [self.actors[name] for name in self.gpu_engines]
        return any(engine.settings.get("backend") == "simulated" for engine in engines)

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        views = {
            name: ActorView(enabled=entry.enabled, needs=entry.needs, uses=entry.uses)
            for name, entry in self.actors.items()
        }
        found = check_actors(views, self.query.engines)
        found += check_numbers(self.model_dump(exclude={"actors"}))
        if found:
            raise ValidationError.from_exception_data("Settings", [_detail(one) for one in found])
        # The dict is this object's own, made by validation, so dropping from it changes no input.
        for name in [name for name, entry in self.actors.items() if not entry.enabled]:
            del self.actors[name]
        # Nor may anything name them any more: these settings travel to the actors, and are
        # validated there again.
        for name, entry in self.actors.items():
            uses = [used for used in entry.uses if used in self.actors]
            self.actors[name] = entry.model_copy(update={"uses": uses})
        engines = [engine for engine in self.query.engines if engine in self.actors]
        # Past the freezing, which is meant for whoever has these settings.
        self.__dict__["query"] = self.query.model_copy(update={"engines": engines})
        return self


def _detail(found: CrossProblem) -> InitErrorDetails:
    # A kind of its own: the loader, which knows who set what, asks for contradictions itself.
    kind = PydanticCustomError(
        "contradiction", "{problem}; {remedy}", {"problem": found.problem, "remedy": found.remedy}
    )
    return InitErrorDetails(type=kind, loc=found.involved[0], input=None)
