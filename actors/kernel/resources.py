"""What a process may use of the machine, set by itself before its actor is imported: so all threads
and processes that it will ever have are bound by it."""

from __future__ import annotations

import os
import resource

from configs.schema import ActorEntry
from protocol.errors import SetupError


def apply_resources(name: str, entry: ActorEntry) -> None:
    """Bind this process to what its entry allows. Raises `SetupError`, which names the setting and
    says what would be right."""
    if entry.cpus is not None:
        _run_on(name, {*entry.cpus})
    if entry.niceness:
        # From where it is, as nobody may go below that.
        os.nice(entry.niceness)
    if entry.max_open_files is not None:
        _limit_open_files(name, entry.max_open_files)


def _run_on(name: str, cpus: set[int]) -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cpus)
        # Those that are there are taken without a word on the others.
        lacking = cpus - os.sched_getaffinity(0)
    except OSError:
        lacking = cpus - allowed or cpus
    if lacking:
        raise SetupError(
            f"actors.{name}.cpus names {_listed(lacking)}, which this machine lacks or does not "
            f"give to noyau; there are: {_listed(allowed)}"
        )


def _limit_open_files(name: str, most: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and most > hard:
        raise SetupError(
            f"actors.{name}.max_open_files is {most}, above the {hard} that the system allows; "
            "give less, or start noyau where `ulimit -Hn` is higher"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _listed(cpus: set[int]) -> str:
    return ", ".join(map(str, sorted(cpus)))
