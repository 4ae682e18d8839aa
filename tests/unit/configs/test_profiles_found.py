"""Device profiles: found from the machine and from what the GPU engine says, or set."""

from __future__ import annotations

import pytest

from configs.machine import Machine
from configs.profiles import MODEL_NEEDS_BYTES, WantedProfile, at_start, in_force
from protocol.lifecycle import ActorState, Profile

GIB = 2**30
LARGE = Machine(memory_bytes=16 * GIB, cores=8, gpu=True)


@pytest.mark.parametrize(
    ("machine", "elsewhere", "found"),
    [
        (LARGE, False, "auto"),
        (Machine(16 * GIB, 2, gpu=True), False, "auto"),
        (Machine(16 * GIB, 1, gpu=True), False, "lite"),
        (Machine(16 * GIB, 8, gpu=False), False, "lite"),
        (Machine(16 * GIB, 8, gpu=False), True, "auto"),
        (Machine(MODEL_NEEDS_BYTES, 8, gpu=False), False, "lite"),
        (Machine(MODEL_NEEDS_BYTES - 1, 8, gpu=True), True, "micro"),
    ],
)
def test_what_can_be_known_at_the_start(machine: Machine, elsewhere: bool, found: str) -> None:
    assert at_start("auto", machine, gpu_elsewhere=elsewhere) == found


@pytest.mark.parametrize("wanted", ["full", "lite", "micro"])
def test_a_profile_that_is_set_is_not_looked_for(wanted: WantedProfile) -> None:
    assert at_start(wanted, LARGE, gpu_elsewhere=False) == wanted
    assert at_start(wanted, Machine(1, 1, gpu=False), gpu_elsewhere=False) == wanted
    assert in_force(wanted, [ActorState.UNAVAILABLE]) == wanted
    assert in_force(wanted, [ActorState.READY]) == wanted


@pytest.mark.parametrize(
    ("states", "profile"),
    [
        ([], "lite"),
        ([ActorState.UNAVAILABLE], "lite"),
        ([ActorState.READY], "full"),
        # It is not there at the moment, which is just what may be expected otherwise.
        ([ActorState.FAILED], "full"),
        ([ActorState.STARTING], "full"),
        ([ActorState.UNAVAILABLE, ActorState.READY], "full"),
    ],
)
def test_the_gpu_engine_decides_between_full_and_lite(
    states: list[ActorState], profile: Profile
) -> None:
    assert in_force("auto", states) == profile
