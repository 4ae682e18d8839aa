"""Which errors are held against an engine."""

from __future__ import annotations

import pytest

from actors.orchestrator.verdicts import Verdict, classify
from protocol.errors import (
    BY_CODE,
    ActorUnavailable,
    Cancelled,
    DeadlineExceeded,
    EngineFailed,
    InvalidRequest,
    NoyauError,
    error_from_body,
)

IGNORED = {
    "request_error", "not_allowed", "not_found", "invalid_request", "quota_exceeded", "poisoned",
    "invalid_message", "unknown_operation", "frame_too_large",
    "cancelled", "deadline_exceeded", "overloaded", "not_running", "tool_failed",
    "circuit_open", "would_be_degraded", "engine_cannot_go_on", "asset_error",
    "asset_unavailable", "optional_asset_missing", "asset_corrupt", "untrusted",
    "disk_full", "setup_error", "invalid_settings", "missing_dependency", "missing_hardware",
    "unusable_model", "unusable_key", "address_unusable", "run_folder_unusable",
}  # fmt: skip


def test_no_error_is_a_success() -> None:
    assert classify(None) is Verdict.SUCCESS


@pytest.mark.parametrize("code", sorted(IGNORED))
def test_what_the_engine_is_not_to_blame_for_never_counts(code: str) -> None:
    assert classify(BY_CODE[code]("it")) is Verdict.IGNORED


@pytest.mark.parametrize("code", sorted(BY_CODE.keys() - IGNORED))
def test_every_other_error_is_a_failure(code: str) -> None:
    assert classify(BY_CODE[code]("it")) is Verdict.FAILURE


def test_a_refused_connection_always_counts() -> None:
    assert classify(ActorUnavailable("it", refused=True)) is Verdict.FAILURE
    assert classify(ActorUnavailable("it")) is Verdict.FAILURE


def test_a_kind_of_error_without_a_row_counts_as_what_it_is_a_kind_of() -> None:
    class EngineStalled(EngineFailed):
        pass

    class PromptTooLong(InvalidRequest):
        pass

    assert classify(EngineStalled("it")) is Verdict.FAILURE
    assert classify(PromptTooLong("it")) is Verdict.IGNORED


def test_an_error_of_a_newer_peer_counts() -> None:
    unknown = error_from_body({"code": "engine_melted"})
    assert type(unknown) is NoyauError
    assert classify(unknown) is Verdict.FAILURE


def test_a_deadline_is_the_callers_unless_it_was_set_for_the_engine() -> None:
    assert classify(DeadlineExceeded("it")) is Verdict.IGNORED
    assert classify(DeadlineExceeded("it"), time_out=True) is Verdict.FAILURE
    assert classify(Cancelled("it"), time_out=True) is Verdict.IGNORED
