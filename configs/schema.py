"""The one description of every setting: its type, unit, bounds, default and the reason for it.

All models are frozen, refuse names they do not know and convert nothing silently: ``true`` is no
number and ``"2"`` is no 2. Where a value may come from, and in which order, is told in `load.py`;
the rules that span more than one setting are in `checks.py`.
"""

from __future__ import annotations

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
    MemorySettings,
    OrchestratorSettings,
    StorageSettings,
    ToolSettings,
)
from configs.answering import (
    AdmissionSettings,
    EngineBreakerSettings,
    QueryBreakerSettings,
    QuerySettings,
    WatchdogSettings,
)
from configs.checks import ActorView, CrossProblem, check_actors, check_numbers, check_ports
from configs.engine_settings import GPU_ELSEWHERE, EngineSettings
from configs.fields import (
    RELOADS,
    ActorName,
    ClassPath,
    CpuNumbers,
    Section,
    wrong,
)
from configs.sections import (
    ChaosSettings,
    DataSettings,
    DeviceSettings,
    HangSettings,
    HealthSettings,
    LimitSettings,
    LogSettings,
    RemoteSettings,
    RestartSettings,
    RunSettings,
    SupervisorSettings,
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
        json_schema_extra=RELOADS,
        description="permanent: always started again; transient: only after a crash; temporary: "
        "never. permanent, because an actor is meant to be there.",
    )
    strategy: Literal["one_for_one", "rest_for_one"] = Field(
        "one_for_one",
        json_schema_extra=RELOADS,
        description="What a death of this actor means for those that need it. one_for_one: "
        "nothing, they go on and ask its next incarnation; rest_for_one: they are drained and "
        "started again after it. one_for_one, because the built-in actors keep nothing of each "
        "other's.",
    )
    memory_mib: float | None = Field(
        None,
        json_schema_extra=RELOADS,
        ge=1,
        le=16_777_216,
        description="Resident memory in MiB above which the actor is drained and started again. "
        "Unset: no ceiling, as what a model needs only its owner knows.",
    )
    cpus: CpuNumbers | None = Field(
        None,
        description="Numbers of the CPUs that the process and all that it starts may run on, as in "
        "taskset(1). Unset: all that noyau may run on, as the system spreads work better than a "
        "list does, except where one actor must be kept off what another needs.",
    )
    niceness: int = Field(
        0,
        ge=0,
        le=19,
        description="Steps that the whole process, and all that it starts, gives way to others "
        "more than noyau does, as in nice(1). 0: nobody waits for who answers. (An engine's own "
        "`niceness` is that of its model's threads alone, and comes on top: its messages pass "
        "them.)",
    )
    max_open_files: int | None = Field(
        None,
        ge=64,
        le=1_073_741_816,
        description="Files and sockets that the process may have open at a time: the soft limit, "
        "as in `ulimit -Sn`. Unset: what noyau was started with, commonly 1024, where an actor "
        "has some thirty open.",
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
    remote: RemoteSettings = Field(
        default_factory=RemoteSettings, description="Clients on other machines."
    )
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
    admission: AdmissionSettings = Field(
        default_factory=AdmissionSettings, description="The queue in front of the engines."
    )
    engine_breaker: EngineBreakerSettings = Field(
        default_factory=EngineBreakerSettings, description="The circuit breaker of each engine."
    )
    query_breaker: QueryBreakerSettings = Field(
        default_factory=QueryBreakerSettings, description="The circuit breaker of queries."
    )
    watchdog: WatchdogSettings = Field(
        default_factory=WatchdogSettings, description="When an engine counts as stalled."
    )
    chaos: ChaosSettings = Field(
        default_factory=ChaosSettings, description="Faults that are put in on purpose."
    )
    actors: dict[ActorName, ActorEntry] = Field(description="The processes, by name.")

    def remote_endpoint(self, name: str) -> str:
        """Where an actor, or the supervisor, listens to other machines; empty: nowhere."""
        names = ["supervisor", *self.actors]
        return self.remote.endpoint(names.index(name)) if name in names else ""

    @property
    def gpu_engines(self) -> list[str]:
        """The engines that are meant for a GPU."""
        actors = self.actors
        return [name for name in self.query.engines if actors[name].settings.get("device") == "gpu"]

    @property
    def gpu_is_elsewhere(self) -> bool:
        """Whether one of those needs no GPU of this machine."""
        engines = [self.actors[name] for name in self.gpu_engines]
        return any(engine.settings.get("backend") in GPU_ELSEWHERE for engine in engines)

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        views = {
            name: ActorView(enabled=entry.enabled, needs=entry.needs, uses=entry.uses)
            for name, entry in self.actors.items()
        }
        found = check_actors(views, self.query.engines)
        found += check_numbers(self.model_dump(exclude={"actors"}))
        found += check_ports(views, self.remote.listen)
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
