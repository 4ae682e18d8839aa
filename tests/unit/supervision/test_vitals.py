"""What the system says of processes: read from those of tests."""

from __future__ import annotations

import os
from collections.abc import Callable

import psutil
import pytest

from supervision.vitals import Vitals, VitalsReader
from tests.support.scripts import run_python, start_python


@pytest.fixture
def look() -> Callable[[], Vitals]:
    """Looks at this process."""
    reader = VitalsReader()

    def look() -> Vitals:
        found = reader.read(os.getpid())
        assert found is not None
        return found

    return look


def test_every_thread_and_every_open_file_counts() -> None:
    # In a process in which nothing else begins or ends meanwhile.
    run_python("""
import os, threading
from supervision.vitals import VitalsReader

reader = VitalsReader()
before = reader.read(os.getpid())
let_go = threading.Event()
thread = threading.Thread(target=let_go.wait)
thread.start()
pipe = os.pipe()
during = reader.read(os.getpid())
let_go.set()
thread.join()
for one in pipe:
    os.close(one)
assert during.threads == before.threads + 1
assert before.open_files is not None
assert during.open_files == before.open_files + 2
assert reader.read(os.getpid()).open_files == before.open_files
""")


def test_the_first_look_tells_the_cpu_use_since_the_start(look: Callable[[], Vitals]) -> None:
    first = look()
    times = os.times()
    assert first.cpu_percent == pytest.approx(
        100 * (times.user + times.system) / first.uptime_s, rel=0.2
    )
    assert first.cpu_percent > 0


def test_a_process_that_is_gone_has_no_vitals() -> None:
    process = start_python("")
    process.wait()
    process.communicate()
    assert VitalsReader().read(process.pid) is None


def test_a_process_that_does_not_tell_its_open_files_is_still_shown(
    look: Callable[[], Vitals], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(process: psutil.Process) -> int:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "num_fds", refuse)
    found = look()
    assert found.open_files is None
    assert found.rss_bytes > 0
