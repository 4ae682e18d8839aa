"""The publisher's side: makes and renews the folder that `TrustedRepository` reads.

    publish:        HASH.manifest.json ──► N.targets.json ──► N.snapshot.json ──► timestamp.json
    renew:          timestamp.json, and of the others those that it would outlive
    change of keys: all that is signed online, by the old keys and the new ones ──► N.root.json

Every file but timestamp.json has a name that no client asks for before something signed names it.
So a client that reads in the middle sees the old state or the new one, and a run that was killed
has changed nothing, or all; it can be repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from securesystemslib.signer import Signer
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from actors.storage.publishing import Pause, disk_errors, hold_lock, make_folders, never
from actors.storage.trust.client import MANIFEST
from actors.storage.trust.download import TARGET_MAX_BYTES
from actors.storage.trust.keys import KeyFolder, KeyRole, SigningKey
from actors.storage.trust.published import PublishedFolder, State
from actors.storage.trust.roles import (
    ONLINE,
    KeyState,
    Lifetimes,
    RoleState,
    Validity,
    change,
    roles_of,
)
from protocol.errors import InvalidRequest, UnusableKey

SignedT = TypeVar("SignedT", bound=Signed)
Now = Callable[[], datetime]


def utc_now() -> datetime:
    """The wall clock's time, aware."""
    return datetime.now(UTC)


class Repository:
    """The published repository in ``folder``. Blocking. One process at a time changes it.

    All its methods raise `UnusableKey` where a key that must sign is not here, cannot be read or
    its passphrase is wrong; `NotFound` where there is no repository, and `AssetCorrupt` where the
    folder is not as it was published; `DiskFull` and `AssetUnavailable` where it cannot be written.

    Args:
        folder: what a web server serves. Raises `UnusableKey` where it holds the keys as well.
        keys: with the online keys; the root's are needed only where the docstrings say so.
        now: the time that dates are counted from.
        pause: waits the given seconds between two looks at the folder's lock.
    """

    def __init__(
        self,
        folder: Path,
        keys: KeyFolder,
        *,
        lifetimes: Lifetimes | None = None,
        now: Now = utc_now,
        pause: Pause = time.sleep,
    ) -> None:
        self._folder = folder.absolute()
        self._published = PublishedFolder(self._folder)
        self._keys = keys
        self._lifetimes = lifetimes or Lifetimes()
        self._now = now
        self._pause = pause
        for one in keys.folders:
            if one.resolve().is_relative_to(self._folder.resolve()):
                raise UnusableKey(
                    f"the keys in {one} would be published with the repository {folder}: keep them "
                    "outside of it"
                )

    def create(
        self, root: Sequence[SigningKey], online: Sequence[SigningKey], *, root_threshold: int = 1
    ) -> bytes:
        """Make an empty repository; returns the first root, which clients must get by another way.

        Needs all the keys. Raises `InvalidRequest` where there is a repository already.
        """
        with self._changing(new=True):
            if self._published.exists():
                raise InvalidRequest(
                    f"there is a repository in {self._folder} already: publish into it, or choose "
                    "another folder"
                )
            return self._create(root, online, root_threshold)

    def begin(self) -> None:
        """Have a repository, if only an empty one: nothing happens where there is one.

        All keys that lie in the key folders count for what they were made for, each by itself;
        where there is none for the root, or to sign online, it is made. A beginning that was killed
        is brought to its end, with the keys that it was made with.
        """
        with self._changing(new=True):
            stage = self._published.stage()
            if stage == "none":
                self._create(self._present_or_new("root"), self._present_or_new("online"), 1)
            elif stage == "begun":
                self._finish_beginning()

    def _present_or_new(self, role: KeyRole) -> list[SigningKey]:
        return self._keys.present(role) or [self._keys.new(role)]

    def _create(
        self, root: Sequence[SigningKey], online: Sequence[SigningKey], root_threshold: int
    ) -> bytes:
        first = _before_first(Root(consistent_snapshot=True))
        change(first, ("root",), root, (), root_threshold)
        change(first, ONLINE, online, (), 1)
        # Ahead of the first file: a passphrase may be wrong.
        signers = self._signers(first, "timestamp")
        data = self._signed_root(first, first)
        self._published.write("1.root.json", data)
        self._write_first_below(first, signers)
        return data

    def _finish_beginning(self) -> None:
        first = self._published.newest_root()
        try:
            signers = self._signers(first, "timestamp")
        except UnusableKey as error:
            raise UnusableKey(
                f"{error.message}. The repository in {self._folder} was begun with them and never "
                "finished: bring them, or remove that folder to begin anew"
            ) from error
        self._write_first_below(first, signers)

    def _write_first_below(self, first: Root, signers: Collection[Signer]) -> None:
        rest = (_before_first(Targets()), _before_first(Snapshot()), _before_first(Timestamp()))
        self._write_online(State(first, *rest), signers)

    def unlock(self) -> None:
        """Have what signs a publication at hand, ahead of long work: passphrases are asked for
        now, and a key that is not here is told."""
        with disk_errors(self._folder):
            self._signers(self._published.load().root, "timestamp")

    def publish(self, manifest: bytes) -> dict[str, int]:
        """Publish a manifest; returns the versions that now hold, by role.

        Raises `InvalidRequest` for one that is larger than clients take.
        """
        if len(manifest) > TARGET_MAX_BYTES:
            raise InvalidRequest(
                f"a manifest may have {TARGET_MAX_BYTES} bytes, and this one has {len(manifest)}"
            )
        with self._changing():
            state = self._published.load()
            target = TargetFile.from_data(MANIFEST, manifest, ["sha256"])
            state.targets.targets = {MANIFEST: target}
            (name,) = target.get_prefixed_paths()
            self._published.write_target(name, manifest)
            self._write_online(state, self._signers(state.root, "timestamp"))
            return _versions(state)

    def renew(self) -> dict[str, int]:
        """Sign a new timestamp; returns the versions that now hold. To be run by a timer.

        Snapshot and targets are signed anew with it only where they would expire before it does.
        """
        with self._changing():
            state = self._published.load()
            until = self._now() + self._lifetimes.timestamp
            due = {role.type for role in (state.targets, state.snapshot) if role.expires < until}
            self._write_online(state, self._signers(state.root, "timestamp"), due)
            return _versions(state)

    def renew_root(self) -> bytes:
        """Sign the root anew, with the same keys, for another lifetime; returns it.

        Needs as many root keys as the threshold says.
        """
        return self.change_keys("root")

    def key_to_replace(self, role: KeyRole, begun: str | None = None) -> str:
        """The id of the role's key whose id begins so; of its only one where nothing is given.

        Raises `InvalidRequest` where it has several, and `UnusableKey` for none or several so.
        """
        with disk_errors(self._folder):
            present = self._published.load().root.roles[roles_of(role)[0]].keyids
        if begun is None and len(present) > 1:
            raise InvalidRequest(
                f"{role} has {len(present)} keys: say which of them is replaced. They are: "
                f"{', '.join(present)}"
            )
        found = [key_id for key_id in present if key_id.startswith(begun or "")]
        if len(found) != 1:
            raise UnusableKey(
                f"{len(found)} keys for {role} have an id that begins with {begun!r}. They are: "
                f"{', '.join(present)}"
            )
        return found[0]

    def rotate(self, role: KeyRole, new: SigningKey, retire: str | None = None) -> bytes:
        """Put a new key in an old one's place; returns the new root.

        ``retire`` is the old one's id, which may be left out where the role has one key. Needs and
        raises what `change_keys` does.
        """
        return self.change_keys(role, add=[new], retire=[retire or self.key_to_replace(role)])

    def change_keys(
        self,
        role: KeyRole,
        *,
        add: Sequence[SigningKey] = (),
        retire: Sequence[str] = (),
        threshold: int | None = None,
    ) -> bytes:
        """Change which keys count for the root or for what is signed online; returns the new root,
        whose life begins anew.

        Needs root keys: enough for the old root's threshold and, where root keys change, for the
        new one's. Online keys that go need not be here. If they are, they sign for a last
        time, beside the new ones, and no client that reads in the middle notices anything; without
        them it may be refused once, and finds all in order the next time.

        A key that was stolen is retired in the same way: what a thief signed with it, with
        whatever high version, counts no more for a client that has the new root. So this also helps
        where the folder was restored from an old copy and its versions are lower than those seen.

        Raises `NotFound` for an id to retire that the role does not have, and `InvalidRequest` for
        a threshold that the keys cannot meet.
        """
        with self._changing():
            state = self._published.load()
            before = deepcopy(state.root)
            change(state.root, roles_of(role), add, retire, threshold)
            root = self._signed_root(state.root, before)
            if role == "root":
                self._published.write(f"{state.root.version}.root.json", root)
            else:
                self._change_online(state, before, root)
            return root

    def overview(self) -> list[RoleState]:
        """What counts for what, and until when. Needs no key and changes nothing."""
        with disk_errors(self._folder):
            state = self._published.load()
        return [self._role_state(state.root, one) for one in _all(state)]

    def validity(self) -> Validity:
        """How long clients believe what is published. Needs no key."""
        return Validity(tuple(self.overview()), self._now())

    def root(self) -> bytes:
        """The newest root: what a program for new clients should bring along."""
        with disk_errors(self._folder):
            return self._published.roots()[-1]

    def roots(self) -> list[bytes]:
        """All roots, the oldest first; none where there is no repository yet."""
        with disk_errors(self._folder):
            return [] if self._published.stage() == "none" else self._published.roots()

    def is_published(self) -> bool:
        """Whether there is a repository that clients can have seen."""
        with disk_errors(self._folder):
            return self._published.stage() == "published"

    def counts(self, key_id: str) -> bool:
        """Whether the newest root names this key for anything."""
        with disk_errors(self._folder):
            root = self._published.newest_root()
        return any(key_id in role.keyids for role in root.roles.values())

    def _role_state(self, root: Root, one: Signed) -> RoleState:
        role = root.roles[one.type]
        keys = tuple(self._key_state(key_id) for key_id in role.keyids)
        return RoleState(one.type, one.version, one.expires, role.threshold, keys)

    def _key_state(self, key_id: str) -> KeyState:
        found = self._keys.find(key_id)
        if found is None:
            return KeyState(key_id, None, False)
        return KeyState(key_id, found.path, found.encrypted)

    @contextmanager
    def _changing(self, *, new: bool = False) -> Iterator[None]:
        with disk_errors(self._folder):
            if not new:
                # Before anything is made in a folder that is none of ours.
                self._published.require()
            make_folders(self._folder)
            with hold_lock(self._folder / ".lock", never, self._pause):
                self._published.finish()
                yield

    def _change_online(self, state: State, before: Root, root: bytes) -> None:
        new, old = self._signers(state.root, "timestamp"), self._present(before, "timestamp")
        version = state.root.version
        if len(old) >= before.roles["timestamp"].threshold:
            both = {signer.public_key.keyid: signer for signer in (*old, *new)}
            self._write_online(state, both.values())
            self._published.write(f"{version}.root.json", root)
        else:
            timestamp = self._write_below_timestamp(state, new, {"targets", "snapshot"})
            self._published.write_root_and_timestamp(version, root, timestamp)

    # Signing -----------------------------------------------------------------------------------

    def _present(self, root: Root, role: str) -> list[Signer]:
        """Those who can sign for a role: the keys whose files are here."""
        found = [self._keys.find(key_id) for key_id in root.roles[role].keyids]
        return [self._keys.signer(key) for key in found if key is not None]

    def _signers(self, root: Root, role: str) -> list[Signer]:
        """The same. Raises `UnusableKey` where they are fewer than the threshold."""
        present, needed = self._present(root, role), root.roles[role]
        if len(present) < needed.threshold:
            folders = ", ".join(str(folder) for folder in self._keys.folders)
            raise UnusableKey(
                f"{needed.threshold} of the keys for {role} must sign, and {len(present)} are in "
                f"{folders}. The keys are: {', '.join(needed.keyids)}"
            )
        return present

    def _signed_root(self, root: Root, before: Root) -> bytes:
        """The root's next version, signed by its own keys and those of the one before."""
        both = (*self._signers(before, "root"), *self._signers(root, "root"))
        return self._next(root, {signer.public_key.keyid: signer for signer in both}.values())

    def _next(self, role: Signed, signers: Collection[Signer]) -> bytes:
        """A role's next version, as bytes; its life begins now."""
        role.version += 1
        role.expires = self._now().astimezone(UTC) + getattr(self._lifetimes, role.type)
        metadata = Metadata[Any](role)
        for signer in signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def _write_online(
        self, state: State, signers: Collection[Signer], due: Collection[str] = ONLINE
    ) -> None:
        """Sign and write the next timestamp, and of the others those that are due."""
        self._published.write("timestamp.json", self._write_below_timestamp(state, signers, due))

    def _write_below_timestamp(
        self, state: State, signers: Collection[Signer], due: Collection[str]
    ) -> bytes:
        """Sign and write what is due of targets and snapshot; returns the timestamp for them."""
        if "targets" in due:
            data = self._next(state.targets, signers)
            self._published.write(f"{state.targets.version}.targets.json", data)
            state.snapshot.meta["targets.json"] = _meta(state.targets, data)
        if due:
            data = self._next(state.snapshot, signers)
            self._published.write(f"{state.snapshot.version}.snapshot.json", data)
            state.timestamp.snapshot_meta = _meta(state.snapshot, data)
        return self._next(state.timestamp, signers)


def _before_first(role: SignedT) -> SignedT:
    """What is signed next is version 1."""
    role.version = 0
    return role


def _meta(role: Signed, data: bytes) -> MetaFile:
    """With length and hash, so that no other file of the same version can take its place."""
    return MetaFile.from_data(role.version, data, ["sha256"])


def _all(state: State) -> tuple[Signed, ...]:
    return (state.root, state.targets, state.snapshot, state.timestamp)


def _versions(state: State) -> dict[str, int]:
    return {one.type: one.version for one in _all(state)}
