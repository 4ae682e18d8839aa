"""Settings that are each right, and together wrong."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from configs import ActorEntry, QuerySettings, Settings, load_settings
from configs.checks import find_cycle
from protocol.errors import InvalidSettings

NAMES = st.sampled_from("abcdef")
GRAPHS = st.dictionaries(NAMES, st.lists(NAMES, max_size=3))


def row(*assignments: str) -> dict[str, str]:
    with pytest.raises(InvalidSettings) as caught:
        load_settings(environ={}, assignments=assignments)
    (found,) = caught.value.details["errors"]
    assert isinstance(found, dict)
    return found


def test_an_unknown_need_is_told_the_nearest_actor() -> None:
    found = row('actors.cpu_engine.needs=["storge"]')
    assert found["problem"] == "there is no actor 'storge'"
    assert found["remedy"] == "did you mean storage?"


def test_an_unknown_engine_is_told_who_is_there() -> None:
    found = row('query.engines=["zzz"]')
    assert found["setting"] == "query.engines"
    assert (
        found["remedy"]
        == "there are: cpu_engine, gpu_engine, memory, orchestrator, storage, tool_user"
    )


def test_a_cycle_is_named_and_blamed_on_the_place_that_closed_it() -> None:
    found = row('actors.storage.needs=["cpu_engine"]')
    assert found["place"] == '--set actors.storage.needs=["cpu_engine"]'
    assert found["setting"] == "actors.storage.needs"
    assert found["problem"] == "actors wait for each other: cpu_engine → storage → cpu_engine"


def test_an_actor_that_needs_itself_is_a_cycle() -> None:
    assert "storage → storage" in row('actors.storage.needs=["storage"]')["problem"]


def test_a_disabled_actor_that_is_needed_is_blamed_on_the_switch() -> None:
    found = row("actors.cpu_engine.enabled=false", 'query.engines=["cpu_engine"]')
    assert found["place"] == '--set query.engines=["cpu_engine"]'
    assert found["problem"] == "query.engines names cpu_engine, which is switched off"
    assert found["remedy"] == "set actors.cpu_engine.enabled=true, or take it out of query.engines"


def test_an_engine_that_is_switched_off_is_passed_over_while_another_is_left() -> None:
    for name in ("cpu_engine", "gpu_engine"):
        settings = load_settings(environ={}, assignments=[f"actors.{name}.enabled=false"])
        assert name not in settings.actors
    both = ["actors.cpu_engine.enabled=false", "actors.gpu_engine.enabled=false"]
    with pytest.raises(InvalidSettings) as caught:
        load_settings(environ={}, assignments=both)
    assert len(caught.value.details["errors"]) == 2


def test_a_disabled_actor_may_need_what_is_not_there() -> None:
    assignments = ["actors.old.class=a:B", 'actors.old.needs=["gone"]', "actors.old.enabled=false"]
    assert "old" not in load_settings(environ={}, assignments=assignments).actors


def test_one_name_for_a_model_that_answers_and_one_that_embeds_is_refused() -> None:
    found = row('actors.cpu_engine.settings={ models={ a="/m" }, embedding_models={ a="/m" } }')
    assert found["problem"] == "a: in models and in embedding_models"
    assert found["remedy"] == "give the one that embeds another name"


def test_a_first_wait_longer_than_the_longest_is_refused() -> None:
    found = row("restart.backoff_first_s=20")
    assert found["setting"] == "restart.backoff_first_s"
    assert found["remedy"] == "make backoff_max_s at least 20 seconds"


def test_heartbeats_rarer_than_the_silence_allowed_are_refused() -> None:
    assert "unhealthy" in row("supervisor.heartbeat_interval_s=3")["problem"]


def test_rates_the_wrong_way_round_are_refused() -> None:
    found = row("health.degraded_error_rate=0.5")
    assert "unhealthy before it is degraded" in found["problem"]
    assert found["remedy"] == "make unhealthy_error_rate at least 0.5"


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ("hang.idle_s=0.2", "between two heartbeats"),
        ("hang.look_interval_s=9", "at the first look"),
        ("hang.stuck_s=500", "less time than work that does not"),
    ],
)
def test_times_in_which_nobody_could_show_that_he_lives_are_refused(
    assignment: str, reason: str
) -> None:
    assert reason in row(assignment)["problem"]


def test_contradictions_are_found_beside_other_errors() -> None:
    with pytest.raises(InvalidSettings) as caught:
        load_settings(
            environ={},
            assignments=[
                "actors.storage=1",
                "query.max_waiting=-1",
                'query.engines=["cpu"]',
                "restart.backoff_max_s=0.01",
            ],
        )
    settings = [found["setting"] for found in caught.value.details["errors"]]
    assert settings == [
        "query.max_waiting",
        "actors.storage",
        "query.engines",
        "restart.backoff_max_s",
    ]


def test_the_schema_finds_contradictions_without_the_loader() -> None:
    with pytest.raises(ValidationError, match="there is no actor 'gpu_engine'"):
        Settings(
            actors={"echo": ActorEntry(class_path="a:B")},
            query=QuerySettings(engines=["gpu_engine"]),
        )


@given(GRAPHS)
def test_a_found_cycle_is_one(needs: dict[str, list[str]]) -> None:
    cycle = find_cycle(needs)
    assert all(b in needs[a] for a, b in pairwise(cycle))
    if cycle:
        assert cycle[0] == cycle[-1]


@given(GRAPHS)
def test_without_a_cycle_there_is_a_start_order(needs: dict[str, list[str]]) -> None:
    waiting = {name: {one for one in some if one in needs} for name, some in needs.items()}
    while ready := [name for name, some in waiting.items() if not some]:
        for name in ready:
            del waiting[name]
        for some in waiting.values():
            some.difference_update(ready)
    assert bool(find_cycle(needs)) == bool(waiting)
