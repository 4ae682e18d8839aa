"""Does one complete set of metadata speak for a file? Pure, and without a clock.

    bootstrap root ──► root ──► … ──► root ──► timestamp ──► snapshot ──► targets ──► the file
                  signed by both             └─────── each signed by keys that the root names;
                                                      each names the next, with version and hash

python-tuf's client does this with what comes over the network, and refuses what has expired. Here
it is done with what was trusted before, where a date that has passed is told and no refusal. Only
the library's public parts are used (``tuf.api.metadata``): its set of trusted metadata is internal
and stops at the first date.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from tuf.api.exceptions import BadVersionNumberError, RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp

SignedT = TypeVar("SignedT", bound=Signed)

RENEWED: Final[tuple[type[Signed], ...]] = (Timestamp, Snapshot, Targets)
"""The roles below the root, in the order in which each names the next."""


@dataclass(frozen=True)
class Evidence:
    """Everything that speaks for one file, and the file: as bytes, as they were published."""

    roots: tuple[bytes, ...]
    """Those after the bootstrap root, up to the one that names the keys of the rest."""
    timestamp: bytes
    snapshot: bytes
    targets: bytes
    content: bytes


@dataclass(frozen=True)
class Proven:
    """What evidence that holds says. Both mappings have the four roles as keys."""

    content: bytes
    versions: Mapping[str, int]
    expires: Mapping[str, datetime]


def first_root(data: bytes) -> Root:
    """A root that is believed because it was brought along; it must still be signed by itself.

    This and all below raise tuf's ``RepositoryError`` for what does not hold.
    """
    metadata, root = _parsed(Root, data)
    root.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
    return root


def next_root(trusted: Root, data: bytes) -> Root:
    """The successor of a trusted root: signed by the keys of both, its version one higher."""
    metadata, root = _parsed(Root, data)
    for judge in (trusted, root):
        judge.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
    if root.version != trusted.version + 1:
        raise BadVersionNumberError(f"root {root.version} cannot follow root {trusted.version}")
    return root


def last_root(first: bytes, roots: Iterable[bytes]) -> Root:
    """The end of a chain. Those not newer than the first are passed over: a program that was
    updated brings a newer first root than the one it began with."""
    root = first_root(first)
    for data in roots:
        if version_of(data) > root.version:
            root = next_root(root, data)
    return root


def following(first: bytes, candidates: Iterable[bytes]) -> list[bytes]:
    """Those of the candidates, the oldest first, that follow the first root one after the other.

    What does not hold is left out, and with it all that would need it.
    """
    root, found = first_root(first), list[bytes]()
    for data in candidates:
        try:
            root = next_root(root, data)
        except RepositoryError:
            continue
        found.append(data)
    return found


def version_of(data: bytes) -> int:
    """What metadata claims to be; nothing of it is verified."""
    metadata: Metadata[Any] = Metadata.from_bytes(data)
    return int(metadata.signed.version)


def signed(root: Root, role: type[SignedT], data: bytes) -> SignedT:
    """``data`` as metadata of this role, signed by enough of the keys that the root names."""
    metadata, found = _parsed(role, data)
    root.verify_delegate(role.type, metadata.signed_bytes, metadata.signatures)
    return found


def newest(root: Root, role: type[Signed], candidates: Iterable[bytes]) -> bytes | None:
    """Of several copies of a role's metadata the one with the highest version, not counting those
    that do not hold. Of equal ones the first."""

    def holding() -> Iterator[tuple[int, bytes]]:
        for data in candidates:
            try:
                yield signed(root, role, data).version, data
            except RepositoryError:
                continue

    return max(holding(), key=lambda one: one[0], default=(0, None))[1]


def prove(evidence: Evidence, first: bytes, name: str) -> Proven:
    """Follow the chain from the ``first`` root to the file called ``name``."""
    root = last_root(first, evidence.roots)
    timestamp = signed(root, Timestamp, evidence.timestamp)
    snapshot = signed(root, Snapshot, evidence.snapshot)
    timestamp.snapshot_meta.verify_length_and_hashes(evidence.snapshot)
    _require_version(snapshot, timestamp.snapshot_meta.version)
    targets = signed(root, Targets, evidence.targets)
    named = snapshot.meta.get("targets.json")
    if named is None:
        raise RepositoryError("the snapshot does not name targets.json")
    named.verify_length_and_hashes(evidence.targets)
    _require_version(targets, named.version)
    target = targets.targets.get(name)
    if target is None:
        raise RepositoryError(f"the targets do not name {name}")
    target.verify_length_and_hashes(evidence.content)
    roles = (root, timestamp, snapshot, targets)
    return Proven(
        evidence.content,
        {role.type: role.version for role in roles},
        {role.type: role.expires for role in roles},
    )


def _require_version(role: Snapshot | Targets, version: int) -> None:
    if role.version != version:
        raise BadVersionNumberError(f"{role.type} is version {role.version}, not {version}")


def _parsed(role: type[SignedT], data: bytes) -> tuple[Metadata[Any], SignedT]:
    """The metadata and its signed part. Any, because only the bytes say of which role they are."""
    metadata: Metadata[Any] = Metadata.from_bytes(data)
    found: Signed = metadata.signed
    if not isinstance(found, role):
        raise RepositoryError(f"this is {found.type} metadata, not {role.type}")
    return metadata, found
