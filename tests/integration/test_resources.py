"""What actors may use, in a running system: one that cannot be given it fails alone."""

from __future__ import annotations

import os

import psutil

from protocol.lifecycle import ActorState
from protocol.messages.supervisor import ActorStatus, Status
from tests.support.system import connect, pid_of, running, status_when

CPU = max(os.sched_getaffinity(0))
WORKER = "tests.support.actors:SlowWorker"


def actor(found: Status, name: str) -> ActorStatus:
    return next(actor for actor in found.actors if actor.name == name)


async def test_an_actor_has_what_its_entry_says_and_one_that_cannot_be_given_it_fails_alone() -> (
    None
):
    async with (
        running(
            "device.profile=micro",
            f"actors.bound.class={WORKER}",
            f"actors.bound.cpus=[{CPU}]",
            "actors.bound.niceness=3",
            "actors.bound.max_open_files=150",
            f"actors.lost.class={WORKER}",
            "actors.lost.cpus=[8191]",
            wait=False,
        ) as system,
        await connect(system) as client,
    ):
        found = await status_when(
            client,
            lambda found: (
                actor(found, "lost").state is ActorState.FAILED
                and actor(found, "bound").state is ActorState.READY
            ),
        )
        bound = psutil.Process(pid_of(found, "bound"))
        assert bound.cpu_affinity() == [CPU]
        assert bound.nice() == min(19, os.nice(0) + 3)
        assert bound.rlimit(psutil.RLIMIT_NOFILE)[0] == 150
        lost = actor(found, "lost")
        assert "actors.lost.cpus names 8191, which this machine lacks" in lost.reason
        assert "78" in lost.last_exit
        assert lost.restarts == 0
