"""Device profiles: what a machine is taken to be able to do, and what noyau promises on it. Pure.

======  =======================================  ==============================================
full    engines on the GPU and on the CPU        an answer that the CPU had to make is degraded
lite    the engine on the CPU                    no GPU is no lack
micro   no language model                        answers come from tools and memory, and say so
======  =======================================  ==============================================

``auto``, the default, is found in two steps: at the start from memory, cores and the devices that
the kernel has; and where there may be a GPU, from whether the GPU engine can use it, which it alone
can tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from configs.machine import Machine
from protocol.lifecycle import ActorState, Profile

WantedProfile = Literal["auto", "full", "lite", "micro"]

MODEL_NEEDS_BYTES = 2**30
"""With the small default model all processes together take about 600 MB (`benchmarks.startup`);
a system needs some for itself."""
ENGINES_NEED_CORES = 2
"""Two engines on one core would only take it from each other."""


def at_start(wanted: WantedProfile, machine: Machine, *, gpu_elsewhere: bool) -> WantedProfile:
    """The profile as far as it can be known at the start; ``auto`` where the GPU engine decides."""
    if wanted != "auto":
        return wanted
    if machine.memory_bytes < MODEL_NEEDS_BYTES:
        return "micro"
    may_be_full = machine.cores >= ENGINES_NEED_CORES and (machine.gpu or gpu_elsewhere)
    return "auto" if may_be_full else "lite"


def in_force(at_start: WantedProfile, gpu_engines: Iterable[ActorState]) -> Profile:
    """The profile that answers are measured by, from the states of the engines that are meant for
    a GPU."""
    if at_start != "auto":
        return at_start
    able = any(state is not ActorState.UNAVAILABLE for state in gpu_engines)
    return "full" if able else "lite"
