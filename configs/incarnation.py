"""What the supervisor hands to a process it starts: who it is, and all it needs to know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from configs.schema import Settings
from protocol.endpoints import endpoint
from protocol.signs import SUFFIX


class Incarnation(BaseModel):
    """One life of one actor: all that is no secret."""

    model_config = ConfigDict(frozen=True)

    name: str
    epoch: str
    """``BOOT-COUNTER``: different for every process the supervisor ever starts."""
    class_path: str
    options: dict[str, Any] = Field(default_factory=dict)
    """The actor's own settings."""
    settings: Settings
    start_delay_s: float = 0.0
    """How long its start is put off on purpose; see `protocol.messages.supervisor.Inject`."""

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return endpoint(self.settings.run.folder, self.name, self.epoch)

    @property
    def supervisor_endpoint(self) -> str:
        """Where the supervisor listens."""
        return endpoint(self.settings.run.folder, "supervisor")

    @property
    def signs_path(self) -> Path:
        """Its page of signs, which the supervisor reads."""
        return self.settings.run.folder / f"{self.name}.{self.epoch}{SUFFIX}"

    @property
    def log_path(self) -> Path:
        """Its log: JSON lines."""
        return self.settings.data.logs_folder / f"{self.name}.jsonl"
