"""The command that the public suite drives, on a repository with delegations and odd names."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    MetaFile,
    Snapshot,
    TargetFile,
    Targets,
)

from actors.storage.trust.conformance import main
from tests.support.trust import OLD, Stage, sign

ROLE = "../odd role?"
TARGET = "sub/target"


class Command:
    """The command, with the folders of one test."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.metadata = stage.folder / "metadata"
        self.targets = stage.folder / "targets"
        self.metadata.mkdir()

    def init(self) -> int:
        root = self.stage.folder / "root"
        root.write_bytes(self.stage.first)
        return main(["--metadata-dir", str(self.metadata), "init", str(root)])

    def refresh(self) -> int:
        return main([*self._options(), "refresh"])

    def download(self, *names: str) -> int:
        base = (self.stage.published / "targets").as_uri()
        wanted = [argument for name in names for argument in ("--target-name", name)]
        folders = ["--target-base-url", base, "--target-dir", str(self.targets)]
        return main([*self._options(), *wanted, *folders, "download"])

    def _options(self) -> list[str]:
        url = (self.stage.published / "metadata").as_uri()
        return ["--metadata-dir", str(self.metadata), "--metadata-url", url]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    command = Command(Stage(tmp_path))
    assert command.init() == 0
    return command


def delegate(stage: Stage, content: bytes) -> None:
    """Let a role with an odd name speak for a target in a folder."""
    key, expires = stage.online_key.public, stage.time + timedelta(days=7)
    target = TargetFile.from_data(TARGET, content, ["sha256"])
    # What is asked for is quoted; a web server takes that away, as the reader of file: URLs does.
    place = stage.published / "metadata" / f"1.{ROLE}.json"
    place.parent.mkdir()
    place.write_bytes(sign(Targets(expires=expires, targets={TARGET: target}), stage.signer))
    (stage.published / "targets" / "sub").mkdir()
    (stage.published / "targets" / target.get_prefixed_paths()[0]).write_bytes(content)

    def add(targets: Targets) -> None:
        role = DelegatedRole(ROLE, [key.keyid], 1, False, ["*/*"])
        targets.delegations = Delegations({key.keyid: key}, {ROLE: role})

    def name(snapshot: Snapshot) -> None:
        snapshot.meta[f"{ROLE}.json"] = MetaFile(1)

    stage.forge(targets=add, snapshot=name)


def test_init_keeps_the_root_and_asks_nobody(command: Command) -> None:
    assert (command.metadata / "root.json").read_bytes() == command.stage.first


def test_refresh_leaves_what_is_trusted_under_plain_names(command: Command) -> None:
    assert command.refresh() == 0
    names = {path.name for path in command.metadata.glob("*.json")}
    assert names == {"root.json", "timestamp.json", "snapshot.json", "targets.json"}


def test_refresh_fails_with_a_reason_where_something_does_not_hold(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    command.stage.path("timestamp").write_bytes(b"{}")
    assert command.refresh() == 1
    assert capsys.readouterr().err.startswith("untrusted: ")


def test_download_brings_the_target_once(command: Command) -> None:
    assert command.download("manifest.json") == 0
    (found,) = command.targets.iterdir()
    assert found.read_bytes() == OLD
    before = found.stat().st_ino
    assert command.download("manifest.json") == 0
    assert found.stat().st_ino == before


def test_no_name_of_a_delegated_role_or_target_leads_out_of_its_folder(command: Command) -> None:
    delegate(command.stage, b"delegated")
    before = {*command.stage.folder.iterdir()}
    assert command.download(TARGET) == 0
    assert {path.name for path in command.targets.iterdir()} == {"sub%2Ftarget"}
    assert (command.metadata / "..%2Fodd%20role%3F.json").is_file()
    assert {*command.stage.folder.iterdir()} - before == {command.targets}


def test_download_stops_at_the_first_target_that_does_not_exist(command: Command) -> None:
    assert command.download("nothing", "manifest.json") == 1
    assert not command.targets.exists()


def test_a_command_before_init_fails_with_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = Command(Stage(tmp_path))
    assert command.refresh() == 1
    assert "first_root" in capsys.readouterr().err
