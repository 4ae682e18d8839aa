"""Does each chaos test fail when the recovery that it is about is taken out?

    python -m tests.without_recovery [WORD …]

For each entry a copy of the project is made, one place in it is changed so that the recovery does
not happen any more, and the test is run there: it has to fail. First it is run unchanged: it has to
pass. WORDs choose entries by what they are about. It takes a minute or two for each, as a test that
waits for a recovery waits until its patience is over. Ends with 1 when a test passed all the same.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Entry:
    """One recovery, and how it is taken out."""

    about: str
    path: str
    there: str
    instead: str
    test: str


ENTRIES = (
    Entry(
        "kill: a dead actor is started again",
        "supervision/plan.py",
        "        if isinstance(decision, Again):",
        "        if isinstance(decision, Again) and child.name == 'nobody':",
        "tests/chaos/test_kills.py::test_queries_outlive_the_sigkill_of[storage]",
    ),
    Entry(
        "stop: a stopped actor is found",
        "supervision/hangs.py",
        "        if self._stops.look(look.state):",
        "        if self._stops.look(look.state) and False:",
        "tests/chaos/test_hangs.py::test_a_stopped_actor_is_replaced_whichever_of_the_six_it_is",
    ),
    Entry(
        "spin: a silent event loop is found",
        "supervision/hangs.py",
        "return self._silent(now, look, signs) or self._stuck(now, look, signs)",
        "return self._stuck(now, look, signs)",
        "tests/chaos/test_hangs.py::test_an_actor_that_hangs_is_found_ended_and_replaced"
        "[spin-it computes]",
    ),
    Entry(
        "stall: a native call that never returns is found",
        "supervision/hangs.py",
        "return self._silent(now, look, signs) or self._stuck(now, look, signs)",
        "return self._stuck(now, look, signs)",
        "tests/chaos/test_hangs.py::test_an_actor_that_hangs_is_found_ended_and_replaced"
        "[sleep-it waits for something]",
    ),
    Entry(
        "stick: work that does not get on is found",
        "supervision/hangs.py",
        "return self._silent(now, look, signs) or self._stuck(now, look, signs)",
        "return self._silent(now, look, signs)",
        "tests/chaos/test_hangs.py::test_an_actor_that_hangs_is_found_ended_and_replaced"
        "[stick-does not compute either]",
    ),
    Entry(
        "leak: an actor over its ceiling is drained",
        "supervision/plan.py",
        "        if rss_bytes <= entry.memory_mib * 2**20:",
        "        if rss_bytes:",
        "tests/chaos/test_hangs.py::test_an_actor_over_its_memory_ceiling_is_drained_and_started_again",
    ),
    Entry(
        "crash loop: it is given up",
        "supervision/restart.py",
        "        if len(self._recent) >= self._settings.max_restarts:",
        "        if False:",
        "tests/chaos/test_kills.py::test_a_crash_loop_ends_in_failed_and_its_siblings_are_untouched",
    ),
    Entry(
        "supervisor killed: its guard starts another",
        "supervision/guard.py",
        "FINAL_EXIT_CODES = (0, 2, 78)",
        "FINAL_EXIT_CODES = (0, 2, 78, -9)",
        "tests/chaos/test_kills.py::"
        "test_the_guard_starts_another_supervisor_and_lets_nothing_of_the_old_one_live",
    ),
    Entry(
        "supervisor stopped: its guard ends it",
        "supervision/looks.py",
        "        return self._in_a_row >= STOPPED_LOOKS",
        "        return False",
        "tests/chaos/test_stopped_keepers.py::"
        "test_a_stopped_supervisor_is_followed_by_another_and_nothing_of_it_is_left",
    ),
    Entry(
        "spawner stopped: it is replaced",
        "supervision/plan.py",
        "        if self._spawner_killed or self._stopping is not None:",
        "        if True:",
        "tests/chaos/test_stopped_keepers.py::"
        "test_a_stopped_spawner_is_replaced_and_all_that_it_had_is_gone_before",
    ),
    Entry(
        "slow exit: one that ignores the order to end is killed",
        "supervision/ending.py",
        "    child.due_at = now + (drain_s if patience_s is None else patience_s)",
        "    child.due_at = now + 1000",
        "tests/integration/test_chaos_faults.py::"
        "test_one_that_ignores_the_order_to_end_is_killed_when_its_time_is_over",
    ),
    Entry(
        "slow start: who asks waits until it is ready",
        "protocol/caller.py",
        "            if now >= until:\n                raise self._not_ready(name)",
        "            if True:\n                raise self._not_ready(name)",
        "tests/integration/test_chaos_faults.py::test_who_asks_one_that_starts_slowly_waits_for_it",
    ),
    Entry(
        "fail: who asks tries again",
        "protocol/caller.py",
        "                if not (its_own and may_repeat) or self.clock.now() >= until:",
        "                if True:",
        "tests/integration/test_chaos_faults.py::"
        "test_as_many_requests_fail_as_were_ordered_and_whoever_asks_tries_again",
    ),
    Entry(
        "drop: a part of a stream that is missing is noticed",
        "protocol/conversation.py",
        "        if sequence != self.next:",
        "        if False:",
        "tests/integration/test_chaos_faults.py::"
        "test_parts_of_a_stream_that_are_lost_are_noticed_and_the_answer_goes_on[cpu_engine]",
    ),
    Entry(
        "delay: who waits is answered by the deadline, and the late reply is nobody's",
        "protocol/connection.py",
        """        if pending is None:
            me.late += 1
            return
""",
        """        if pending is None:
            raise AssertionError("whose is this?")
""",
        "tests/integration/test_chaos_faults.py::"
        "test_a_late_reply_ends_by_the_deadline_and_is_nobodys_when_it_comes",
    ),
    Entry(
        "poison: a request that processes die of is tried no more",
        "actors/storage/work.py",
        "        return len(self.in_a_row) >= bounds.in_a_row or self.in_all > bounds.in_all",
        "        return False",
        "tests/chaos/test_poison.py::test_a_query_that_its_engine_dies_of_ends_after_two_deaths"
        "[poison]",
    ),
    Entry(
        "told: whoever waits for a peer that dies is told",
        "protocol/connection.py",
        "            pending.fail(ActorDied(reason, actor=self.name, epoch=self.epoch))",
        "            pass",
        "tests/chaos/test_peer_deaths.py::"
        "test_whoever_waits_for_a_peer_that_dies_is_told_and_nothing_is_done_twice[LoopbackWiring]",
    ),
    Entry(
        "orphans: what a dead actor left is killed before its end is told",
        "supervision/forkserver.py",
        "            os.kill(pid, signal.SIGKILL)\n            self._swept.add(pid)",
        "            self._swept.add(pid)",
        "tests/integration/test_spawner.py::"
        "test_what_an_actor_left_behind_is_gone_before_its_end_is_told",
    ),
    Entry(
        "files: what a dead storage left half done is removed",
        "actors/storage/stored/store.py",
        "        self.folder.clear_staging()\n",
        "",
        "tests/chaos/test_file_kills.py::test_no_kill_of_storage_loses_tears_or_miscounts_a_file",
    ),
    Entry(
        "files: one that storage died over is sent again",
        "actors/kernel/files.py",
        '                if error.details.get("upload") != upload or attempt == MOST_BEGUN - 1:',
        "                if True:",
        "tests/unit/actors/storage/stored/test_stored_handlers.py::"
        "test_a_file_that_was_being_saved_is_sent_again_to_the_next_incarnation",
    ),
    Entry(
        "files: a flipped bit is found",
        "actors/storage/stored/reading.py",
        "        if found != self.file.checksum:",
        "        if False:",
        "tests/integration/test_stored_files.py::"
        "test_a_flipped_bit_is_an_error_for_the_reader_and_an_event_for_all",
    ),
    Entry(
        "files: a spool tries again",
        "actors/kernel/spool.py",
        "        if self._is_to_blame(error):",
        "        if True:",
        "tests/integration/test_stored_files.py::"
        "test_a_spool_loses_nothing_while_storage_is_killed_again_and_again",
    ),
    Entry(
        "rolling restart: what was refused is asked again",
        "protocol/caller.py",
        "                if not (its_own and may_repeat) or self.clock.now() >= until:",
        "                if True:",
        "tests/integration/test_operations.py::"
        "test_a_rolling_restart_of_everything_under_load_fails_no_request",
    ),
)


def passes(test: str, folder: Path) -> bool:
    """Run one test in this copy of the project."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"{test} could not be run:\n{done.stdout}{done.stderr}")
    return done.returncode == 0


def copy_of_project(folder: Path) -> None:
    """All that git knows of it, as it is now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)


def check(entry: Entry) -> str:
    """What came of it; empty when all is as it should be."""
    with tempfile.TemporaryDirectory(prefix="ny", dir="/tmp") as made:
        folder = Path(made)
        copy_of_project(folder)
        if not passes(entry.test, folder):
            return "fails with the recovery in place"
        path = folder / entry.path
        text = path.read_text()
        if text.count(entry.there) != 1:
            raise SystemExit(f"{entry.path} has no longer one place with {entry.there!r}")
        path.write_text(text.replace(entry.there, entry.instead))
        return "passes without the recovery" if passes(entry.test, folder) else ""


def main(words: list[str]) -> int:
    """Check those that are chosen; returns the exit code."""
    chosen = [e for e in ENTRIES if not words or any(word in e.about for word in words)]
    wrong = 0
    for entry in chosen:
        found = check(entry)
        wrong += bool(found)
        verdict = f"WRONG: {found}" if found else "its test fails"
        print(f"{entry.about}: {verdict}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
