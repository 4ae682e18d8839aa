"""Settings: their one description, where they come from, and the run folder they name."""

from configs.actor_settings import (
    MemorySettings,
    OrchestratorSettings,
    StorageSettings,
    ToolSettings,
)
from configs.answering import QuerySettings
from configs.describe import SettingDescription, describe_settings
from configs.engine_settings import EngineSettings
from configs.fields import RESERVED_NAMES
from configs.layers import SettingProblem
from configs.load import load_settings
from configs.paths import EPOCH_CHARACTERS, prepare_run_folder
from configs.schema import ACTOR_SETTINGS, ActorEntry, Settings
from configs.sections import (
    ChaosSettings,
    DataSettings,
    DeviceSettings,
    HangSettings,
    HealthSettings,
    LimitSettings,
    LogSettings,
    RestartSettings,
    RunSettings,
    SupervisorSettings,
)

__all__ = [
    "ACTOR_SETTINGS",
    "EPOCH_CHARACTERS",
    "RESERVED_NAMES",
    "ActorEntry",
    "ChaosSettings",
    "DataSettings",
    "DeviceSettings",
    "EngineSettings",
    "HangSettings",
    "HealthSettings",
    "LimitSettings",
    "LogSettings",
    "MemorySettings",
    "OrchestratorSettings",
    "QuerySettings",
    "RestartSettings",
    "RunSettings",
    "SettingDescription",
    "SettingProblem",
    "Settings",
    "StorageSettings",
    "SupervisorSettings",
    "ToolSettings",
    "describe_settings",
    "load_settings",
    "prepare_run_folder",
]
