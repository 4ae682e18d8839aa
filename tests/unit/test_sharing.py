"""Tests that share what takes long to make run in one process."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def made_once() -> list[str]:
    return []


@pytest.mark.parametrize("number", range(6))
def test_tests_that_share_something_are_a_group_where_several_processes_run_tests(
    made_once: list[str], request: pytest.FixtureRequest, number: int
) -> None:
    if not hasattr(request.config, "workerinput"):
        pytest.skip("one process runs all tests")
    # By that xdist knows the group: with another pytest, or another order of hooks, it does not.
    assert request.node.nodeid.endswith("@test_sharing.py")
    made_once.append(request.node.nodeid)
    assert len(made_once) == number + 1
