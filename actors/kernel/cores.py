"""Which core each thread of a model runs on.

llama.cpp's threads meet at a barrier after each of a graph's nodes, hundreds of times for a token,
and spin until all are there. Two of them on one core wait for each other a scheduler's slice each
time, and where two models compute at once (an engine goes on with an answer while the lost one is
loaded again) the scheduler puts them there and leaves them: loads are balanced. Measured on two
cores: 124 tokens are read in 380 ms by an engine alone, in 600 while another is loaded, and in
1,000 to 3,500 with threads that may go where they like.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any


def cores_to_keep(threads: int, usable: Collection[int], most: int) -> list[int]:
    """The cores that ``threads`` threads are to keep to, one each; none where they may go where
    they like. Only as many threads as there are cores have to share one if they do not: fewer are
    put on idle ones by the scheduler, which knows better than we which those are. Nor are they kept
    where a core's number is ``most`` or more, the first that the library cannot name."""
    if threads != len(usable) or max(usable) >= most:
        return []
    return sorted(usable)


def spread_threads(params: Any, threads: int) -> None:
    """Set how many threads a model has, for prompts and for tokens, in xllamacpp's `CommonParams`;
    each keeps to a core of its own where they would have to share."""
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = threads
        cores = cores_to_keep(threads, os.sched_getaffinity(0), len(cpu.cpumask))
        if cores:
            cpu.cpumask = [number in cores for number in range(len(cpu.cpumask))]
            cpu.mask_valid = cpu.strict_cpu = True
