"""Which keys count for which role of a published repository, and for how long. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from tuf.api.metadata import Root

from actors.storage.trust.keys import KeyRole, SigningKey
from protocol.errors import InvalidRequest, NotFound

ONLINE: Final = ("targets", "snapshot", "timestamp")
"""The roles that the online keys sign for. They have the same keys and threshold."""
LONGEST: Final = timedelta(days=36_500)
"""So that no date leaves the calendar."""

ROOT_DUE: Final = timedelta(days=30)
"""So long before its end a root is renewed, or its publisher is told to fetch the key."""


@dataclass(frozen=True)
class Lifetimes:
    """How long what is signed now is valid. Raises `InvalidRequest` for what is no such time.

    The timestamp's is how long a client can be kept from news without noticing, and how often
    ``renew`` must run at the least. The others only bound how long a forgotten repository is
    believed; a root needs its key, which lies in a drawer, to be renewed.
    """

    root: timedelta = timedelta(days=365)
    targets: timedelta = timedelta(days=365)
    snapshot: timedelta = timedelta(days=365)
    timestamp: timedelta = timedelta(days=7)

    def __post_init__(self) -> None:
        for role in ("root", *ONLINE):
            if not timedelta() < getattr(self, role) <= LONGEST:
                raise InvalidRequest(
                    f"the {role} must live longer than 0 and up to {LONGEST.days} days"
                )


@dataclass(frozen=True)
class KeyState:
    """A key that counts for a role, and its file, where that is in one of the key folders."""

    id: str
    path: Path | None
    encrypted: bool


@dataclass(frozen=True)
class RoleState:
    """One role of a repository as it stands."""

    role: str
    version: int
    expires: datetime
    threshold: int
    """How many of the keys must sign."""
    keys: tuple[KeyState, ...]


@dataclass(frozen=True)
class Validity:
    """How long clients go on believing a repository: until the first of its roles expires.

    The publisher's timer signs all of them anew but for the root, whose key lies in a drawer.
    """

    roles: tuple[RoleState, ...]
    now: datetime

    @property
    def first(self) -> RoleState:
        """The role that expires first."""
        return min(self.roles, key=lambda one: one.expires)

    @property
    def left(self) -> timedelta:
        """For how long all of it is believed yet."""
        return self.first.expires - self.now

    @property
    def root(self) -> RoleState:
        """The role that no timer renews."""
        return next(one for one in self.roles if one.role == "root")

    @property
    def root_left(self) -> timedelta:
        """For how long the root is believed yet."""
        return self.root.expires - self.now

    @property
    def root_expired(self) -> bool:
        """Whether clients refuse everything, whatever else is signed."""
        return self.root_left <= timedelta()

    @property
    def root_is_due(self) -> bool:
        """Whether the root has to be signed anew now."""
        return self.root_left <= ROOT_DUE

    @property
    def root_keys_are_here(self) -> bool:
        """Whether that can be done with the keys that are here."""
        return sum(key.path is not None for key in self.root.keys) >= self.root.threshold


def roles_of(role: KeyRole) -> tuple[str, ...]:
    """The roles that keys of this kind sign for."""
    return ("root",) if role == "root" else ONLINE


def change(
    root: Root,
    roles: Sequence[str],
    add: Sequence[SigningKey],
    retire: Sequence[str],
    threshold: int | None,
) -> None:
    """Change in place which keys count for these roles. Raises `NotFound`, `InvalidRequest`."""
    for role in roles:
        for key in add:
            if role not in roles_of(key.role):
                raise InvalidRequest(
                    f"{key.path} was made for {key.role}, and not to sign for {role}"
                )
            root.add_key(key.public, role)
        for key_id in retire:
            if key_id not in root.roles[role].keyids:
                there = ", ".join(root.roles[role].keyids)
                raise NotFound(f"{role} has no key {key_id!r}; it has: {there}")
            root.revoke_key(key_id, role)
        needed = root.roles[role].threshold if threshold is None else threshold
        if not 1 <= needed <= len(root.roles[role].keyids):
            raise InvalidRequest(
                f"{needed} keys cannot be asked to sign for {role}, which has "
                f"{len(root.roles[role].keyids)}"
            )
        root.roles[role].threshold = needed
