"""``root.json`` beside the keys: the copy of the newest root that new clients are given."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from actors.storage.publishing import publish_bytes, publish_new_bytes
from protocol.errors import AssetUnavailable, InvalidRequest


class RootFile:
    """The file in a folder of keys. It is of one repository, and never becomes another's.

    ``roots`` are all of a repository's, the oldest first.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "root.json"

    def fits(self, roots: Sequence[bytes]) -> bool:
        """Whether it is one of these, or is not there yet. Raises `InvalidRequest` where it
        cannot be read."""
        try:
            return self.path.read_bytes() in roots
        except (FileNotFoundError, NotADirectoryError):
            if self.path.is_symlink():
                raise InvalidRequest(
                    f"{self.path} is a link that leads nowhere: remove it"
                ) from None
            return True
        except OSError as error:
            raise InvalidRequest(
                f"{self.path} cannot be read: {error.strerror}. It is where new clients' root "
                "belongs: move away what is there"
            ) from error

    def check(self, roots: Sequence[bytes], repository: Path) -> None:
        """Raise `InvalidRequest` where it is not the repository's, and must not become it."""
        if not self.fits(roots):
            raise InvalidRequest(f"{self.mismatch(repository)}. {self._remedy(roots, repository)}")

    def mismatch(self, repository: Path) -> str:
        """What is to be said where it does not fit."""
        return f"{self.path} is no root of the repository in {repository}"

    def _remedy(self, roots: Sequence[bytes], repository: Path) -> str:
        if roots:
            return (
                "Is that the right folder, and as new as its keys? If so, move the file away and "
                "try again"
            )
        return (
            f"There is none in {repository} yet, and these keys have one elsewhere. Publish into "
            "that; or take another folder for the keys of a new one (--keys); or, if the old one "
            "is gone for good, move the file away to begin anew with its keys"
        )

    def add(self, roots: Sequence[bytes]) -> bool:
        """Put the newest root there where nothing is; returns whether it was put there."""
        try:
            publish_new_bytes(roots[-1], self.path)
        except FileExistsError as error:
            if not os.path.lexists(self.path):  # It is the folder that is a file.
                raise self._unwritten(roots, error) from error
            return False
        except OSError as error:
            raise self._unwritten(roots, error) from error
        return True

    def replace(self, roots: Sequence[bytes]) -> None:
        """Put the newest root in the place of an older one. It fits: see `check`."""
        try:
            publish_bytes(roots[-1], self.path)
        except OSError as error:
            raise self._unwritten(roots, error) from error

    def _unwritten(self, roots: Sequence[bytes], error: OSError) -> AssetUnavailable:
        name = f"metadata/{len(roots)}.root.json"
        return AssetUnavailable(
            f"{self.path} could not be written ({error.strerror}); all else is done. Copy {name} "
            "of the published folder there: it is what new clients need"
        )
