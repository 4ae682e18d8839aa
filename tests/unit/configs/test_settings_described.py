"""Every setting is described, and default.toml is in step with the schema."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from typing import Any

import pytest

from configs import SettingDescription, Settings, describe_settings
from configs.describe import UNITS

ALL = list(describe_settings())
TEXT = resources.files("configs").joinpath("default.toml").read_text("utf-8")
UNCOMMENTED = tomllib.loads(re.sub(r"^#(?=[a-z_]+ = )", "", TEXT, flags=re.MULTILINE))

# Numbers that count things; their description names what they count.
COUNTS = {
    "connections",
    "min_calls",
    "drain_share",
    "failures",
    "hard_open_rejections",
    "min_p",
    "permits",
    "repeat_penalty",
    "successes",
    "top_k",
    "queue_depth",
    "slow_factor",
    "kept_files",
    "max_files",
    "max_uploads",
    "failures_in_a_row",
    "degraded_error_rate",
    "unhealthy_error_rate",
    "approximate_above",
    "backoff_factor",
    "batch_texts",
    "cpus",
    "duplicate_score",
    "history_turns",
    "max_continuations",
    "max_deaths_in_a_row",
    "draft_tokens",
    "max_loaded",
    "max_open_conversations_per_peer",
    "max_open_files",
    "max_restarts",
    "max_running",
    "max_text_chars",
    "max_tokens",
    "max_turn_chars",
    "max_waiting",
    "max_waiting_texts",
    "memories",
    "memory_min_score",
    "niceness",
    "repetition_chars",
    "seed",
    "similarity",
    "slots",
    "temperature",
    "threads",
    "top_p",
}


def value_in(tree: Any, name: str) -> Any:
    for part in name.split("."):
        tree = tree[part]
    return tree


@pytest.mark.parametrize("setting", ALL, ids=lambda setting: setting.name)
def test_every_setting_has_a_description_and_a_type(setting: SettingDescription) -> None:
    assert len(setting.description) > 30
    assert setting.type
    assert setting.default


@pytest.mark.parametrize("setting", ALL, ids=lambda setting: setting.name)
def test_every_number_has_a_unit_or_counts_something(setting: SettingDescription) -> None:
    last = setting.name.rpartition(".")[2]
    if "number" in setting.type:
        assert last.endswith(tuple(UNITS)) or last in COUNTS


def test_names_are_unique() -> None:
    assert len({setting.name for setting in ALL}) == len(ALL)


def test_every_section_is_described() -> None:
    assert {setting.name.partition(".")[0] for setting in ALL} == set(Settings.model_fields)


@pytest.mark.parametrize(
    "setting", [one for one in ALL if ".NAME." not in one.name], ids=lambda setting: setting.name
)
def test_the_default_file_shows_every_setting_at_its_default(setting: SettingDescription) -> None:
    shown = value_in(UNCOMMENTED, setting.name)
    if setting.default not in ("unset", "depends on the user"):
        assert shown == tomllib.loads(f"value = {setting.default}")["value"]


def test_the_default_file_is_valid_with_every_line_uncommented() -> None:
    Settings.model_validate(UNCOMMENTED)
