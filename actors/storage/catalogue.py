"""The manifest in force: what noyau brings, what a publisher signed, what the user added or pinned.

    built in (or the setting `manifest`)  <  publisher's  <  the user's own  <  pinned

Where two have a file of one name, the later one counts. A publisher's manifest is in force once its
update was applied, not when it was fetched: until then everything stays as it is.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actors.storage.layers import as_far_as_they_fit, in_the_way, together
from actors.storage.layout import Layout
from actors.storage.manifest import (
    Asset,
    Manifest,
    load_manifest,
    merged,
    read_manifest,
    write_manifest,
)
from actors.storage.publishing import PERMIT, hold_lock, never, publish_bytes, read_own
from actors.storage.sources import Cancelled as IsCancelled
from protocol.errors import InvalidRequest, InvalidSettings, NotFound


class _Applied(BaseModel):
    """Which publisher's manifest is in force."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    base: str
    """The URL that its sources are relative to."""
    before: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """The hash of the one before; empty where there was none."""


@dataclass(frozen=True, slots=True)
class Published:
    """A publisher's manifest: its text as it was signed, and where it came from."""

    text: bytes
    base: str

    @property
    def sha256(self) -> str:
        """Of the text, hex."""
        return hashlib.sha256(self.text).hexdigest()

    def read(self) -> Manifest:
        """Raises ``InvalidSettings``."""
        return read_manifest(
            self.text, where=f"the manifest of {self.base}", base=self.base, layer=True
        )


class Catalogue:
    """Reads and changes what is in force in an asset folder. ``own``: a manifest file of the
    user's in place of the built-in one.

    What changes a list waits for whoever changes one now, and raises ``Cancelled`` once
    ``cancelled()`` while it waits; it is changed or not, and never half.
    """

    def __init__(self, layout: Layout, own: Path | None = None) -> None:
        self._layout = layout
        self._own = own
        self._changes = _Depth()

    def stamp(self) -> tuple[object, ...]:
        """Another one once a list in the folder was changed, by whatever process. Quick."""
        return tuple(map(_stamp, (self._layout.applied, self._layout.local, self._layout.pins)))

    def manifest(self) -> Manifest:
        """What is in force now. Raises ``InvalidSettings`` that names the file that is wrong."""
        manifest, problems = self.as_far_as_it_goes()
        if problems:
            raise InvalidSettings("; ".join(problems))
        return manifest

    def as_far_as_it_goes(self) -> tuple[Manifest, list[str]]:
        """What is in force, without the files that are damaged; and what is wrong with those.

        Raises ``InvalidSettings`` where the first one, noyau's or the user's in its place, is.
        """
        theirs, own, problems = list[Manifest](), list[Manifest](), list[str]()
        for read, layers in ((self._published, theirs), (self.local, own), (self.pinned, own)):
            try:
                layer = read()
                if layer is not None:
                    layers.append(layer)
            except InvalidSettings as error:
                problems.append(error.message)
        manifest, contradictions = as_far_as_they_fit(load_manifest(self._own), theirs, own)
        return manifest, problems + contradictions

    def _published(self) -> Manifest | None:
        applied = self.applied()
        return None if applied is None else applied.read()

    def manifest_with(self, published: Published) -> Manifest:
        """What would be in force with another manifest of the publisher's.

        Raises ``InvalidSettings``; where something of the user's own is in the way, with what he
        can do about it.
        """
        theirs = [load_manifest(self._own), published.read()]
        local, pinned = self.local(), self.pinned()
        try:
            return together(theirs, [local, pinned])
        except InvalidSettings as error:
            remedies = [
                *(f"noyau assets pin {each} --undo" for each in in_the_way(pinned, theirs, local)),
                *(f"noyau assets remove {each}" for each in in_the_way(local, theirs, pinned)),
            ]
            if not remedies:
                raise
            raise InvalidSettings(
                f"{error.message}\nWhat is your own is in its way; one of these lets it through: "
                f"{'; '.join(remedies)}",
                **error.details,
            ) from error

    def was_followed(self) -> bool:
        """Whether anything that a publisher signed was ever trusted here."""
        return self._layout.trust.is_dir()

    def applied(self) -> Published | None:
        """The publisher's manifest that is in force.

        Raises ``InvalidSettings`` where it is damaged: nobody guesses what a publisher signed.
        """
        applied = self._applied()
        if applied is None:
            return None
        path = self._layout.manifests / applied.sha256
        found = Published(_text_of(path) or b"", applied.base)
        if found.sha256 != applied.sha256:
            raise InvalidSettings(
                f"{path} is missing or damaged: it is not the manifest that was signed. Fetch it "
                "again: noyau assets update"
            )
        return found

    def apply(self, published: Published) -> None:
        """Put a publisher's manifest in force, durably. The one before is kept."""
        with self.changing():
            self._apply(published)

    def _apply(self, published: Published) -> None:
        now = self._applied()
        publish_bytes(published.text, self._layout.manifests / published.sha256)
        before = now.sha256 if now is not None and now.sha256 != published.sha256 else ""
        applied = _Applied(sha256=published.sha256, base=published.base, before=before)
        publish_bytes(applied.model_dump_json().encode(), self._layout.applied)
        for path in self._layout.manifests.iterdir():
            if path.name not in (applied.sha256, applied.before):
                path.unlink()

    def _applied(self) -> _Applied | None:
        text = _text_of(self._layout.applied)
        if text is None:
            return None
        try:
            return _Applied.model_validate_json(text)
        except ValidationError as error:
            raise InvalidSettings(
                f"{self._layout.applied} is damaged. Remove it, then: noyau assets update"
            ) from error

    def local(self) -> Manifest:
        """What the user added."""
        return self._own_list(self._layout.local)

    def pinned(self) -> Manifest:
        """Files that stay at a version whatever other manifests say."""
        return self._own_list(self._layout.pins)

    def check_name(self, name: str) -> None:
        """Raise ``InvalidRequest`` where a file of the user's own cannot have this name."""
        if any(each.name == name for each in self.pinned().assets):
            raise InvalidRequest(
                f"{name} is pinned to the version that is here; let it go, and add yours again: "
                f"noyau assets pin {name} --undo"
            )
        if all(each.name != name for each in self.local().assets) and any(
            each.name == name for each in self.as_far_as_it_goes()[0].assets
        ):
            raise InvalidRequest(f"there is an asset {name!r} already; give yours another name")

    def add(self, asset: Asset, cancelled: IsCancelled = never) -> Asset | None:
        """Have a file of the user's own, in place of an earlier one of its name, which is returned.

        Raises ``InvalidRequest``, see `check_name`, and ``InvalidSettings`` where it contradicts
        the others.
        """
        with self.changing(cancelled):
            self.check_name(asset.name)
            before = next((each for each in self.local().assets if each.name == asset.name), None)
            self._change(self._layout.local, asset.name, asset)
        return before

    def undo_add(self, asset: Asset, before: Asset | None) -> None:
        """Have ``before``, or none, in its place again, if nobody has changed that since."""
        with self.changing():
            if asset in self.local().assets:
                self._change(self._layout.local, asset.name, before)

    def remove(self, name: str, cancelled: IsCancelled = never) -> None:
        """Take back `add`. Raises ``NotFound``."""
        self.local().asset(name)
        with self.changing(cancelled):
            self._change(self._layout.pins, name, None)
            self._change(self._layout.local, name, None)

    def pin(self, asset: Asset, cancelled: IsCancelled = never) -> None:
        """Keep the file at this version."""
        with self.changing(cancelled):
            self._change(self._layout.pins, asset.name, asset)

    def pin_in_force(self, name: str, cancelled: IsCancelled = never) -> Asset:
        """Keep the file at the version that is in force. Raises ``NotFound``."""
        with self.changing(cancelled):
            asset = self.as_far_as_it_goes()[0].asset(name)
            self.pin(asset)
        return asset

    def unpin(self, name: str, cancelled: IsCancelled = never) -> Asset:
        """Take back `pin`; returns what was pinned. Raises ``NotFound`` where nothing was."""
        with self.changing(cancelled):
            pinned = self._pin_of(name)
            self._change(self._layout.pins, name, None)
        return pinned

    def manifest_without_pin(self, name: str) -> Manifest:
        """What would be in force if this file were not pinned. Raises ``NotFound`` where it is
        not, and ``InvalidSettings``."""
        self._pin_of(name)
        published = self._published()
        theirs = [load_manifest(self._own), *([published] if published is not None else [])]
        kept = [each for each in self.pinned().assets if each.name != name]
        return together(theirs, [self.local(), Manifest.layer(kept)])

    def _pin_of(self, name: str) -> Asset:
        pinned = {asset.name: asset for asset in self.pinned().assets}
        if name not in pinned:
            raise NotFound(f"{name!r} is not pinned", known=list(pinned))
        return pinned[name]

    @contextmanager
    def changing(self, cancelled: IsCancelled = never) -> Iterator[None]:
        """One at a time reads lists, changes them and writes them: what was read stays so. Whoever
        does may begin it again meanwhile."""
        if self._changes.depth:
            yield
            return
        with hold_lock(self._layout.locks / "lists", cancelled):
            self._changes.depth += 1
            try:
                yield
            finally:
                self._changes.depth -= 1

    def _change(self, path: Path, name: str, asset: Asset | None) -> None:
        """Inside `changing`."""
        before = self._own_list(path)
        kept = [each for each in before.assets if each.name != name]
        added = [asset] if asset is not None else []
        if asset is not None:
            # Before anything is written: the user is told now, not at the next start.
            merged([self.as_far_as_it_goes()[0], Manifest.layer([asset])])
        publish_bytes(write_manifest(Manifest.layer([*kept, *added])), path)

    @staticmethod
    def _own_list(path: Path) -> Manifest:
        text = _text_of(path)
        if text is None:
            return Manifest.layer(())
        return read_manifest(text, where=str(path), base=path.absolute().as_uri(), layer=True)


def _text_of(path: Path) -> bytes | None:
    """One of the lists; None where there is none. Raises ``InvalidSettings``: a list that the
    system does not let us read is as one that is damaged."""
    try:
        return read_own(path)
    except OSError as error:
        remedy = "The disk may be failing: restore the file, or move it away"
        if isinstance(error, PermissionError):
            remedy = PERMIT
        raise InvalidSettings(f"{path} cannot be read: {error.strerror}. {remedy}") from error


class _Depth(threading.local):
    """How often a thread has begun to change the lists, and not ended."""

    depth = 0


def _stamp(path: Path) -> tuple[int, ...]:
    """Of a list, which is never changed in its place."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size
