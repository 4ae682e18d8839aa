"""What a reload changes at once, with an actor's next start, and with noyau's."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs import Settings, describe_settings, load_settings
from configs.reloading import changes
from protocol.errors import InvalidSettings


def loaded(*assignments: str) -> Settings:
    return load_settings(assignments=assignments, environ={})


def test_what_is_as_it_was_is_no_change() -> None:
    found = changes(loaded(), loaded())
    assert (found.now, found.at_restart, found.at_start) == ([], {}, [])
    assert found.settings == loaded()


def test_what_the_schema_says_may_change_is_in_force_at_once() -> None:
    found = changes(loaded(), loaded("hang.idle_s=7", "restart.max_restarts=3"))
    assert found.now == ["hang.idle_s", "restart.max_restarts"]
    assert (found.settings.hang.idle_s, found.settings.restart.max_restarts) == (7, 3)


def test_an_actors_ceiling_and_restart_type_change_at_once() -> None:
    found = changes(
        loaded(), loaded("actors.memory.memory_mib=500", "actors.memory.restart=transient")
    )
    assert sorted(found.now) == ["actors.memory.memory_mib", "actors.memory.restart"]
    assert found.settings.actors["memory"].memory_mib == 500


def test_an_actors_own_settings_wait_for_its_next_start_and_are_there_then() -> None:
    name = "actors.cpu_engine.settings.slots"
    found = changes(loaded(), loaded(f"{name}=2"))
    assert (found.now, found.at_restart) == ([], {"cpu_engine": [name]})
    assert found.settings.actors["cpu_engine"].settings["slots"] == 2


@pytest.mark.parametrize(
    "assignment",
    [
        "run.folder=/tmp/elsewhere",
        "limits.max_frame_bytes=100000",
        "supervisor.heartbeat_interval_s=0.5",
        "actors.extra.class=tests.support.actors:SlowWorker",
    ],
)
def test_all_else_waits_for_the_next_start_of_noyau_and_stays_as_it_was(assignment: str) -> None:
    old = loaded()
    found = changes(old, loaded(assignment))
    assert len(found.at_start) == 1
    assert assignment.startswith(found.at_start[0])
    assert found.settings == old


def test_an_actor_less_is_left_as_it_was_with_all_that_use_it() -> None:
    old = loaded()
    found = changes(old, loaded("actors.memory.enabled=false"))
    assert "actors.memory" in found.at_start
    assert found.settings == old


def test_a_setting_that_was_set_and_is_no_more_goes_back_to_its_default() -> None:
    old = loaded("actors.memory.memory_mib=500", "hang.idle_s=9")
    found = changes(old, loaded())
    assert found.settings == loaded()


def test_what_can_change_must_fit_to_what_cannot() -> None:
    # Fits the new interval, which only a start can change, and not the old one.
    old = loaded("supervisor.heartbeat_interval_s=1", "supervisor.heartbeat_missed_after_s=5")
    new = loaded("supervisor.heartbeat_interval_s=0.1", "supervisor.heartbeat_missed_after_s=0.5")
    with pytest.raises(InvalidSettings, match="start noyau anew"):
        changes(old, new)


def test_paths_and_unset_values_are_no_changes(tmp_path: Path) -> None:
    one = loaded(f"data.folder={tmp_path}")
    assert changes(one, loaded(f"data.folder={tmp_path}")).at_start == []


def test_the_descriptions_say_which_settings_a_reload_changes() -> None:
    reloads = {one.name for one in describe_settings() if one.reloads}
    assert "hang.idle_s" in reloads
    assert "actors.NAME.memory_mib" in reloads
    assert "run.folder" not in reloads
