"""What a process may use is set in itself; what cannot be given is told with a remedy."""

from __future__ import annotations

import json
import os
from typing import Any

from tests.support.scripts import run_python

# In a process of its own, as nothing of it can be taken back.
APPLY = """
import json, os, resource, sys, threading
from actors.kernel.resources import apply_resources
from configs import ActorEntry
from protocol.errors import SetupError

hard, entry = json.loads(sys.argv[1]), json.loads(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (min(200, hard), hard))
os.nice(1)
found = {}
try:
    apply_resources("storage", ActorEntry.model_validate({"class": "a:B"} | entry))
except SetupError as error:
    found["error"] = error.message

def look():
    found["cpus"] = sorted(os.sched_getaffinity(0))
    found["nice"] = os.nice(0)
    found["files"] = resource.getrlimit(resource.RLIMIT_NOFILE)

thread = threading.Thread(target=look)
thread.start()
thread.join()
print(json.dumps(found))
"""

ALL = sorted(os.sched_getaffinity(0))
NICE = os.nice(0)


def applied(hard: int = 500, **entry: Any) -> dict[str, Any]:
    """What a thread of a process finds that was given this entry, with this hard limit."""
    found = json.loads(run_python(APPLY, json.dumps(hard), json.dumps(entry)))
    assert isinstance(found, dict)
    return found


def test_without_these_settings_a_process_has_what_noyau_has() -> None:
    assert applied() == {"cpus": ALL, "nice": min(19, NICE + 1), "files": [200, 500]}


def test_every_thread_is_bound_by_what_the_entry_says() -> None:
    found = applied(cpus=[ALL[-1]], niceness=5, max_open_files=300)
    assert found == {"cpus": ALL[-1:], "nice": min(19, NICE + 6), "files": [300, 500]}


def test_a_cpu_that_is_not_there_is_told_with_those_that_are() -> None:
    for cpus in ([8191], [ALL[0], 8191]):
        assert applied(cpus=cpus)["error"] == (
            "actors.storage.cpus names 8191, which this machine lacks or does not give to noyau; "
            f"there are: {', '.join(map(str, ALL))}"
        )


def test_more_open_files_than_the_system_allows_are_told_with_what_it_allows() -> None:
    assert "error" not in applied(max_open_files=500)
    found = applied(max_open_files=501)
    assert found["error"] == (
        "actors.storage.max_open_files is 501, above the 500 that the system allows; give less, "
        "or start noyau where `ulimit -Hn` is higher"
    )
    assert found["files"] == [200, 500]
