"""What people are told of an answer, and of queue, engines and breakers."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from noyau.status import engines_table
from noyau.telling import tell
from protocol.messages.orchestrator import Answered, Failover, RuntimeStatus

LOST = Failover(engine="gpu_engine.b-1", code="engine_stalled", reason="no sign", position=7)


def told(capsys: pytest.CaptureFixture[str], explain: bool = False, **more: Any) -> str:
    usual = {
        "id": "q", "query": "q", "finish_reason": "stop", "profile": "lite", "engines": [],
        "seams": [], "tokens": 1, "queued_ms": 0, "first_token_ms": None, "total_ms": 0,
    }  # fmt: skip
    tell(Answered.model_validate(usual | more), explain)
    return capsys.readouterr().err


def test_of_an_answer_as_usual_nothing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys) == ""


def test_an_expert_a_loop_and_what_is_missing_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, expert="poet", finish_reason="repetition", missing=["without the GPU"])
    assert "answered by the expert poet" in text
    assert "said the same over and over" in text
    assert "without the GPU" in text


def test_lost_engines_are_told_to_who_wants_it_explained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert told(capsys, failovers=[LOST]) == ""
    text = told(capsys, explain=True, failovers=[LOST])
    assert "gpu_engine.b-1 did not answer, at character 7: no sign" in text


BREAKER = {
    "state": "closed", "generation": 0, "failure_count": 0, "success_count": 0,
    "probes_in_flight": 0, "opens_for_s": None, "granted": 9, "successes": 5, "failures": 3,
    "ignored": 1, "rejections": 2, "forced": 0, "slow": 0, "last_failure_s": None,
    "last_success_s": None,
}  # fmt: skip
OPEN = BREAKER | {"state": "open", "opens_for_s": 41.6}


def engine(name: str, state: str = "ready", breaker: dict[str, Any] = BREAKER) -> dict[str, Any]:
    return {
        "name": name, "epoch": "b-1", "state": state, "health": "healthy", "reason": "",
        "device": name[:3], "backend": "llama_cpp", "model": "m", "slots": 4, "running": 2,
        "breaker": breaker,
    }  # fmt: skip


def shown(**more: Any) -> list[str]:
    queue = {
        "waiting": {"critical": 0, "high": 1, "normal": 3, "low": 0}, "running": 2, "slots": 4,
        "tokens": 9, "max_waiting": 100, "entered": 1, "admitted": 1, "finished": 11, "dropped": 1,
        "abandoned": 0, "expired": 0, "refused": {"full": 2}, "rate_per_s": None,
        "estimated_wait_s": 0, "overloaded_for_s": None,
    }  # fmt: skip
    engines = [engine("gpu_engine", breaker=OPEN), engine("cpu_engine", "starting")]
    usual: dict[str, Any] = {
        "profile": "full", "queue": queue | more.pop("queue", {}), "engines": engines,
        "queries": BREAKER, "experts": [],
    }  # fmt: skip
    text = io.StringIO()
    runtime = RuntimeStatus.model_validate(usual | more)
    Console(file=text, width=100, no_color=True).print(engines_table(runtime))
    return text.getvalue().splitlines()


def test_each_engine_is_shown_with_its_answers_and_its_breaker() -> None:
    _, gpu, cpu, *_ = shown()
    assert gpu.split() == [
        "gpu_engine", "gpu", "m", "2", "of", "4", "open,", "probed", "in", "42", "s", "3", "2",
    ]  # fmt: skip
    assert cpu.split() == ["cpu_engine", "cpu", "m", "starting", "closed", "3", "2"]


def test_the_queue_is_shown_in_a_line() -> None:
    assert "queue 1 high, 3 normal waiting; 2 of 4 slots in use; 11 finished, 3 refused" in shown()
    idle = {"waiting": dict.fromkeys(("critical", "high", "normal", "low"), 0)}
    assert any("nobody waiting" in line for line in shown(queue=idle))


def test_overload_an_open_breaker_of_queries_and_experts_are_shown_where_there_are_any() -> None:
    lines = shown(queue={"overloaded_for_s": 12.3}, queries=OPEN, experts=["a", "b"])
    line = " ".join(" ".join(lines).split())
    assert "overloaded: only high and critical, at most 12 s" in line
    assert "the breaker of queries is open, probed in 42 s" in line
    assert "experts: a, b" in line


def test_it_fits_a_terminal_of_a_hundred_columns() -> None:
    assert max(map(len, shown())) <= 100
