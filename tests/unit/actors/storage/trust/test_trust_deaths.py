"""Killed at any step, a client or publisher leaves a folder that the next one can use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from actors.storage.trust.keys import KeyFolder
from actors.storage.trust.signing import Repository
from protocol.errors import AssetUnavailable
from tests.support.dying import begin
from tests.support.trust import NEW, OLD, Stage


def deaths(stage: Stage, act: str, stride: int) -> Iterator[None]:
    """Yields after each death; the folders are put back as they were when the next one begins."""
    (stage.folder / "first_root").write_bytes(stage.first)
    before = stage.folder.parent / f"{stage.folder.name}.before"
    shutil.copytree(stage.folder, before)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.dying", act, str(stage.folder), str(stride)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as dying:  # fmt: skip
        assert dying.stdin is not None
        assert dying.stdout is not None
        for line in dying.stdout:
            if line == "done\n":
                break
            yield
            shutil.rmtree(stage.folder)
            shutil.copytree(before, stage.folder)
            dying.stdin.write("next\n")
            dying.stdin.flush()
    assert dying.returncode == 0


def all_steps(stage: Stage, act: str, stride: int = 1) -> int:
    """How many deaths; whatever the act did at last is done then."""
    return sum(1 for _ in deaths(stage, act, stride))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "stage")


def test_a_client_that_is_killed_at_its_first_refresh_can_be_started_again(stage: Stage) -> None:
    count = 0
    for _ in deaths(stage, "refresh", stride=3):
        count += 1
        try:
            assert stage.trusted() == OLD
        except AssetUnavailable:
            assert not (stage.folder / "client" / "last_trusted").exists()
        assert stage.client.refresh().manifest.content == OLD
    assert count > 20
    assert stage.trusted() == OLD


def test_a_client_that_is_killed_at_an_update_has_the_old_manifest_or_the_new_one(
    stage: Stage,
) -> None:
    stage.client.refresh()
    stage.repository.rotate("online", stage.keys.new("online"))
    stage.repository.publish(NEW)
    seen = set[bytes]()
    for _ in deaths(stage, "refresh", stride=3):
        seen.add(stage.trusted())
        assert stage.client.refresh().manifest.content == NEW
        assert leftovers(stage.folder / "client") == []
    assert seen == {OLD, NEW}
    assert stage.trusted() == NEW


def leftovers(folder: Path) -> list[str]:
    """What only those have who do not come to their end."""
    names = (path.name for path in folder.rglob(".*"))
    return [name for name in names if name != ".lock"]


def test_a_publish_that_is_killed_has_happened_or_not_and_can_be_repeated(stage: Stage) -> None:
    stage.client.refresh()
    seen = set[bytes]()
    for _ in deaths(stage, "publish", stride=1):
        found = stage.new_client("onlooker").refresh().manifest.content
        seen.add(found)
        versions = again(stage).publish(NEW)
        refreshed = stage.client.refresh()
        assert refreshed.manifest.content == NEW
        assert refreshed.manifest.versions == versions
    assert seen == {OLD, NEW}
    assert stage.client.refresh().manifest.content == NEW


def test_a_first_publication_that_is_killed_can_be_repeated_and_makes_no_more_keys(
    stage: Stage,
) -> None:
    for folder in (stage.published, stage.folder / "keys"):
        shutil.rmtree(folder)
    count = 0
    for _ in deaths(stage, "begin", stride=7):
        count += 1
        made = {*(stage.folder / "keys").glob("*.key")}
        begin(stage.folder)
        keys = {*(stage.folder / "keys").glob("*.key")}
        assert made <= keys
        assert len(keys) == 2
        first = (stage.folder / "keys" / "root.json").read_bytes()
        client = stage.new_client(f"client{count}", root=first)
        assert client.refresh().manifest.content == NEW
    assert count > 10


def again(stage: Stage) -> Repository:
    """A publisher who starts anew, with the keys that lie there."""
    return Repository(stage.published, KeyFolder(stage.folder / "keys"))


@pytest.mark.parametrize("old_key", ["is here", "is lost"])
def test_a_change_of_keys_that_is_killed_has_happened_or_not_and_can_be_repeated(
    stage: Stage, old_key: str
) -> None:
    stage.client.refresh()
    if old_key == "is lost":
        stage.online_key.path.unlink()
    for _ in deaths(stage, "rotate", stride=4):
        repository = again(stage)
        repository.rotate("online", KeyFolder(stage.folder / "keys").new("online"))
        repository.publish(NEW)
        assert stage.client.refresh().manifest.content == NEW
    again(stage).publish(NEW)
    assert stage.client.refresh().manifest.content == NEW


def test_between_the_last_two_files_of_replacing_a_lost_key_a_renewal_finishes_it(
    stage: Stage,
) -> None:
    stage.online_key.path.unlink()
    metadata = stage.published / "metadata"
    half_way = 0
    for _ in deaths(stage, "rotate", stride=1):
        if (metadata / "2.root.json").exists():
            half_way += 1
            again(stage).renew()
            assert stage.client.refresh().manifest.versions["root"] == 2
            assert not (metadata / ".timestamp.json.next").exists()
    assert half_way > 0


HOLDING = """
import sys
from pathlib import Path
from actors.storage.trust.client import TrustedRepository
from tests.support.trust import BASE, Network

folder = Path(sys.argv[1])
network = Network(folder / "published")

def hold(name):
    if name == "metadata/timestamp.json":
        print("holding", flush=True)
        sys.stdin.readline()

network.before = hold
root = (folder / "first_root").read_bytes()
print(TrustedRepository(folder / "client", BASE, root, network).refresh().newer)
"""


@pytest.fixture
def other(stage: Stage) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of a refresh, which goes on when it reads a line."""
    (stage.folder / "first_root").write_bytes(stage.first)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(stage.folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        yield process
        process.kill()


def test_of_two_processes_at_once_one_waits_for_the_other(
    stage: Stage, other: subprocess.Popen[str]
) -> None:
    waited = list[float]()

    def pause(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 1:
            assert other.stdin is not None
            other.stdin.write("go on\n")
            other.stdin.flush()
        assert len(waited) < 600
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)

    refreshed = stage.new_client(pause=pause).refresh()
    assert waited
    assert (refreshed.manifest.content, refreshed.newer) == (OLD, False)
    assert other.communicate()[0] == "True\n"


def test_a_process_that_is_killed_while_it_holds_the_folder_keeps_nobody_out(
    stage: Stage, other: subprocess.Popen[str]
) -> None:
    with pytest.raises(AssetUnavailable):
        stage.client.last_trusted(datetime.now(UTC))
    other.kill()
    other.wait()
    assert stage.client.refresh().newer


def test_what_was_trusted_can_be_read_while_another_process_refreshes(stage: Stage) -> None:
    stage.client.refresh()
    asked = list[bytes]()
    stage.network.before = lambda _: asked.append(stage.trusted())
    stage.repository.publish(NEW)
    stage.client.refresh()
    assert asked
    assert {*asked} == {OLD}
