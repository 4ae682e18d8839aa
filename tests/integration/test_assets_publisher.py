"""``noyau assets publish`` and ``keys``: what goes wrong is told, and can be made good."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from actors.storage.publishing import try_lock
from actors.storage.trust.client import TrustedRepository
from actors.storage.trust.keys import KeyFolder
from actors.storage.trust.published import PublishedFolder
from actors.storage.trust.roles import Lifetimes
from actors.storage.trust.signing import Repository
from tests.support.invoking import invoked
from tests.support.trust import BASE, Network

DATA = os.urandom(50_000)
DAY = timedelta(days=1)


class Desk:
    """A publisher's folders, and the verbs with them."""

    def __init__(self, root: Path) -> None:
        self.root, self.release, self.keys = root, root / "release", root / "keys"
        self.site = root / "site"
        self.release.mkdir()
        (self.release / "a.bin").write_bytes(DATA)

    def publish(self, *options: str, out: Path | None = None, **others: Any) -> Any:
        """What it says as JSON; what it prints, where another exit code is expected."""
        done = self.said("publish", str(self.release), str(out or self.site), *options, **others)
        return json.loads(done.stdout) if done.returncode == 0 else done.stderr

    def said(
        self, *arguments: str, code: int = 0, stdin: str = "", keys: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        as_json = ("--json",) if arguments[0] == "publish" and code == 0 else ()
        done = invoked(
            "assets", *arguments, "--keys", str(keys or self.keys), *as_json, stdin=stdin
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def text(self, *options: str) -> str:
        """What a person reads of a publication."""
        done = invoked(
            "assets", "publish", str(self.release), str(self.site), "-k", str(self.keys), *options
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    def begun(self, ago: timedelta, lifetimes: Lifetimes | None = None) -> None:
        """Have a repository that was made so long ago."""
        keys = KeyFolder(self.keys)
        repository = Repository(
            self.site, keys, now=lambda: datetime.now(UTC) - ago, lifetimes=lifetimes
        )
        root = repository.create([keys.new("root")], [keys.new("online")])
        (self.keys / "root.json").write_bytes(root)

    def key_names(self) -> set[str]:
        return {path.name for path in self.keys.glob("*.key")}

    @property
    def root_key(self) -> Path:
        [path] = self.keys.glob("root-*.key")
        return path

    def version_that_a_client_has(self, root: bytes | None = None) -> str:
        client = TrustedRepository(
            self.root / "client", BASE, root or (self.keys / "root.json").read_bytes(),
            Network(self.site),
        )  # fmt: skip
        version: str = json.loads(client.refresh().manifest.content)["version"]
        return version


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


# Keys at the first publication ------------------------------------------------------------------


def test_keys_that_are_there_are_used_and_no_others_are_made(desk: Desk) -> None:
    for role in ("root", "online"):
        desk.said("keys", "new", role)
    made = desk.key_names()
    desk.publish()
    assert desk.key_names() == made
    roles = json.loads(desk.said("keys", "list", str(desk.site), "--json").stdout)["roles"]
    assert all(key["file"] for role in roles for key in role["keys"])


def test_keys_with_a_passphrase_that_are_there_are_used_and_asked_for(desk: Desk) -> None:
    for role in ("root", "online"):
        desk.said("keys", "new", role, "--encrypted", stdin="secret\nsecret\n")
    made = desk.key_names()
    desk.publish(stdin="secret\nsecret\n")
    assert desk.key_names() == made
    assert desk.version_that_a_client_has() == "1"


def test_a_key_for_which_no_passphrase_is_given_is_told(desk: Desk) -> None:
    desk.said("keys", "new", "root", "--encrypted", stdin="secret\nsecret\n")
    assert "no passphrase was given" in desk.publish(code=78)
    assert not desk.site.exists() or not list(desk.site.rglob("*.json"))


def test_of_the_keys_that_lack_alone_new_ones_are_made(desk: Desk) -> None:
    desk.said("keys", "new", "root")
    before = desk.key_names()
    desk.publish()
    assert {name.partition("-")[0] for name in desk.key_names() - before} == {"online"}


def test_a_mistyped_folder_gets_no_repository_beside_the_one_that_the_keys_are_of(
    desk: Desk,
) -> None:
    desk.publish()
    root, made = (desk.keys / "root.json").read_bytes(), desk.key_names()
    told = desk.publish(out=desk.root / "siet", code=1)
    assert "root.json" in told
    assert "siet" in told
    assert (desk.keys / "root.json").read_bytes() == root
    assert desk.key_names() == made
    assert not (desk.root / "siet").exists()


def test_a_root_of_another_repository_beside_the_keys_is_told_and_kept(desk: Desk) -> None:
    desk.publish()
    (desk.keys / "root.json").write_bytes(b"of another")
    assert "is no root of" in desk.text()
    told = desk.said("keys", "replace", str(desk.site), "online", code=1).stderr
    assert "is no root of" in told
    assert (desk.keys / "root.json").read_bytes() == b"of another"
    assert len(desk.key_names()) == 2


# Beginnings that came to no end -----------------------------------------------------------------


@pytest.mark.parametrize("written", range(4))
def test_a_first_publication_that_dies_can_be_repeated(
    desk: Desk, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = PublishedFolder.write, [written]

    def write(self: PublishedFolder, name: str, data: bytes) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(self, name, data)

    with monkeypatch.context() as dying:
        dying.setattr(PublishedFolder, "write", write)
        desk.said("publish", str(desk.release), str(desk.site), code=130)
    made = desk.key_names()
    said = desk.publish()
    assert said["new_root"] == str(desk.keys / "root.json")
    assert desk.key_names() == made
    assert desk.version_that_a_client_has() == "1"


def test_a_root_that_was_never_written_beside_the_keys_is_written_by_the_next(desk: Desk) -> None:
    desk.publish()
    (desk.keys / "root.json").unlink()
    assert desk.publish()["new_root"] == str(desk.keys / "root.json")
    assert desk.version_that_a_client_has() == "2"
    assert desk.publish()["new_root"] is None


def test_a_first_try_with_an_empty_folder_makes_no_key_and_the_next_tells_of_them(
    desk: Desk,
) -> None:
    (desk.release / "a.bin").rename(desk.root / "a.bin")
    assert "there are no files" in desk.publish(code=78)
    assert not desk.keys.exists()
    (desk.root / "a.bin").rename(desk.release / "a.bin")
    told = desk.text()
    assert "root.json" in told
    assert str(desk.keys) in told


def test_a_repository_that_lost_its_timestamp_is_not_begun_anew(desk: Desk) -> None:
    desk.publish()
    first = (desk.site / "metadata" / "1.root.json").read_bytes()
    (desk.site / "metadata" / "timestamp.json").unlink()
    assert "Bring the folder back from a copy" in desk.publish(code=1)
    assert (desk.site / "metadata" / "1.root.json").read_bytes() == first


# Files ------------------------------------------------------------------------------------------


def test_a_file_that_is_gone_is_told(desk: Desk) -> None:
    (desk.release / "b.bin").write_bytes(DATA[:9000])
    desk.publish()
    (desk.release / "b.bin").unlink()
    assert desk.publish()["removed"] == ["b"]
    (desk.release / "b.bin").write_bytes(DATA[:9000])
    desk.publish()
    (desk.release / "b.bin").unlink()
    told = desk.text()
    assert "gone: b" in told
    assert "nothing changed" not in told


def test_a_folder_that_became_a_link_is_refused_and_nothing_is_published(desk: Desk) -> None:
    desk.publish()
    (desk.root / "elsewhere").mkdir()
    (desk.release / "more").symlink_to(desk.root / "elsewhere")
    assert "more: a link to a folder" in desk.publish(code=78)
    assert desk.version_that_a_client_has() == "1"


def test_of_two_publications_into_one_folder_at_once_one_is_refused(desk: Desk) -> None:
    desk.publish()
    with try_lock(desk.site / ".publish.lock") as mine:
        assert mine
        assert "another `publish` is at work" in desk.publish(code=1)
    assert desk.publish()["version"] == "2"


# Wrong arguments --------------------------------------------------------------------------------


def file_in_the_place_of_the_folder(desk: Desk) -> None:
    (desk.release / "a.bin").unlink()
    desk.release.rmdir()
    desk.release.write_bytes(DATA)


def folder_in_the_place_of_the_description(desk: Desk) -> None:
    (desk.release / "publish.toml").mkdir()


def name_that_is_not_utf_8(desk: Desk) -> None:
    with open(os.fsencode(desk.release) + b"/caf\xe9.bin", "wb") as file:
        file.write(DATA)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (file_in_the_place_of_the_folder, "is no folder"),
        (folder_in_the_place_of_the_description, "publish.toml cannot be read"),
        (name_that_is_not_utf_8, "not UTF-8"),
    ],
)
def test_what_cannot_be_published_is_told_before_a_key_is_made(
    desk: Desk, spoil: Callable[[Desk], None], reason: str
) -> None:
    spoil(desk)
    assert reason in desk.publish(code=78)
    assert not desk.keys.exists()


@pytest.mark.parametrize("days", ["inf", "nan", "1e12", "36501"])
def test_more_days_than_a_calendar_has_are_refused(desk: Desk, days: str) -> None:
    told = invoked(
        "assets", "publish", str(desk.release), str(desk.site), "-k", str(desk.keys),
        "--days", days,
    )  # fmt: skip
    assert told.returncode in (1, 2)
    assert "--days" in told.stderr
    assert not desk.keys.exists()
    renewed = invoked("assets", "keys", "renew", str(desk.site), "-k", "x", "--days", days)
    assert renewed.returncode in (1, 2)
    assert "--days" in renewed.stderr


def test_a_file_in_the_place_of_the_key_folder_is_told_as_that(desk: Desk) -> None:
    desk.keys.write_bytes(b"")
    told = desk.said("keys", "new", "root", code=78).stderr
    assert "already" not in told
    assert "Not a directory" in told or "is no folder" in told


def test_a_renewal_where_there_is_no_repository_makes_nothing(desk: Desk) -> None:
    told = desk.said("keys", "renew", str(desk.root / "nosite"), code=1).stderr
    assert "there is no repository" in told
    assert not (desk.root / "nosite").exists()
    desk.said("keys", "renew", str(desk.release), code=1)
    assert [path.name for path in desk.release.iterdir()] == ["a.bin"]


# Replacing keys ---------------------------------------------------------------------------------


@pytest.mark.parametrize("old", ["zzz", ""])
def test_a_key_to_replace_that_is_none_leaves_no_new_key_behind(desk: Desk, old: str) -> None:
    desk.publish()
    made = desk.key_names()
    old = old or desk.root_key.name.removeprefix("root-").removesuffix(".key")
    desk.said("keys", "replace", str(desk.site), "online", "--old", old, code=78)
    assert desk.key_names() == made


def test_a_replacement_that_cannot_be_signed_leaves_no_new_key_behind(desk: Desk) -> None:
    desk.publish()
    desk.root_key.rename(desk.root / "drawer.key")
    made = desk.key_names()
    desk.said("keys", "replace", str(desk.site), "online", code=78)
    assert desk.key_names() == made


def test_a_root_that_cannot_be_written_is_told_before_keys_are_replaced(desk: Desk) -> None:
    desk.publish()
    (desk.keys / "root.json").unlink()
    (desk.keys / "root.json").mkdir()
    (desk.keys / "root.json" / "kept").touch()
    made = desk.key_names()
    told = desk.said("keys", "replace", str(desk.site), "online", code=1).stderr
    assert "root.json" in told
    assert desk.key_names() == made
    assert (desk.keys / "root.json" / "kept").exists()
    assert not (desk.site / "metadata" / "2.root.json").exists()


# What expires -----------------------------------------------------------------------------------


def test_what_expires_first_is_told(desk: Desk) -> None:
    told = desk.text("--days", "3")
    assert "for another 3 days" in told
    assert "timestamp expires first" in told
    said = desk.publish("--days", "3")
    until = datetime.fromisoformat(said["believed_until"])
    assert timedelta(0) < datetime.now(UTC) + 3 * DAY - until < timedelta(minutes=5)
    assert said["expires_first"] == "timestamp"
    renewed = desk.said("keys", "renew", str(desk.site), "--days", "400").stderr
    assert "root expires first" in renewed


def test_a_root_near_its_end_is_renewed_where_its_key_is_at_hand(desk: Desk) -> None:
    desk.begun(timedelta(0), Lifetimes(root=20 * DAY))
    first = (desk.keys / "root.json").read_bytes()
    desk.publish()
    told = desk.said("keys", "renew", str(desk.site)).stderr
    assert "for another 7 days" in told
    assert (desk.site / "metadata" / "2.root.json").exists()
    newest = (desk.keys / "root.json").read_bytes()
    assert newest == (desk.site / "metadata" / "2.root.json").read_bytes()
    assert desk.version_that_a_client_has(first) == "1"
    desk.said("keys", "renew", str(desk.site))
    assert not (desk.site / "metadata" / "3.root.json").exists()


def test_a_root_near_its_end_whose_key_is_away_is_warned_of(desk: Desk) -> None:
    desk.begun(timedelta(0), Lifetimes(root=20 * DAY))
    desk.root_key.rename(desk.root / "drawer.key")
    for told in (desk.text(), desk.said("keys", "renew", str(desk.site)).stderr):
        assert "in 20 days" in told
        assert "noyau assets keys renew" in told


def test_an_expired_root_fails_a_renewal_and_a_publication_until_its_key_is_brought(
    desk: Desk,
) -> None:
    desk.begun(400 * DAY)
    key = desk.root_key
    key.rename(desk.root / "drawer.key")
    for verb in (("keys", "renew"), ("publish", str(desk.release))):
        told = desk.said(*verb, str(desk.site), code=78).stderr
        assert "its root expired on" in told
        assert "noyau assets keys renew" in told
    (desk.root / "drawer.key").rename(key)
    desk.said("keys", "renew", str(desk.site))
    desk.publish()
    assert desk.version_that_a_client_has() == "1"


def test_a_root_key_whose_passphrase_nobody_gives_keeps_no_timer_from_renewing(desk: Desk) -> None:
    keys = KeyFolder(desk.keys)
    repository = Repository(desk.site, keys, lifetimes=Lifetimes(root=20 * DAY))
    repository.create([keys.new("root", "secret")], [keys.new("online")])
    before = repository.overview()[-1].version
    told = desk.said("keys", "renew", str(desk.site)).stderr
    assert "no passphrase was given" in told
    assert repository.overview()[-1].version == before + 1
