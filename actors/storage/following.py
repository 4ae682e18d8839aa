"""The publisher that is followed: what he signs, whether to believe it, and what of it waits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version as version_of_package
from typing import TYPE_CHECKING

from actors.storage.building import Watch
from actors.storage.catalogue import Catalogue, Published
from actors.storage.fetching import Fetcher
from actors.storage.manifest import check_client
from actors.storage.retrying import Retries
from protocol.errors import AssetError, AssetUnavailable, InvalidSettings, SetupError, Untrusted

if TYPE_CHECKING:
    from actors.storage.trust.client import TrustedRepository


class Following:
    """Knows one publisher, or none.

    Args:
        fetcher: whose clock and pauses are used between tries.
        repository: gives what he signs, when it is first needed: a stick with his root key may be
            away, and the files that are here are as good without. None where nobody is followed.
        base: his address.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        fetcher: Fetcher,
        repository: Callable[[], TrustedRepository] | None = None,
        base: str = "",
    ) -> None:
        self._catalogue = catalogue
        self._fetcher = fetcher
        self._repository = repository
        self._base = base

    def newest(self, watch: Watch) -> Published:
        """The newest manifest that can be trusted, and that this noyau understands. What came
        broken is asked for again, as any other download.

        Raises ``Untrusted``, ``AssetUnavailable``, ``DiskFull``, ``InvalidSettings`` and
        ``Cancelled``.
        """
        if self._repository is None:
            raise InvalidSettings(
                "no publisher is followed: set actors.storage.settings.repository (its address) "
                "and repository_root (its root.json) and try again"
            )
        published = Published(self._refreshed(self._repository(), watch), self._base)
        check_client(
            published.read(), version_of_package("noyau"), where=f"the manifest of {self._base}"
        )
        return published

    def _refreshed(self, repository: TrustedRepository, watch: Watch) -> bytes:
        retries = Retries()
        while True:
            try:
                return repository.refresh(watch.cancelled).manifest.content
            except (AssetUnavailable, Untrusted) as error:
                until = retries.again_at(error, self._fetcher.clock.now())
                if until is None:
                    raise
                self._fetcher.pause_until(until, watch.cancelled)
                watch.check("looking for an update")

    def warning(self) -> str:
        """What to tell where what was trusted has expired, or is there no more; else empty."""
        if self._repository is None:
            return ""
        try:
            if self._catalogue.applied() is None:
                return ""
            return self._repository().last_trusted(datetime.now(UTC)).warning or ""
        except (AssetError, SetupError) as error:
            return error.message

    def to_come(self) -> set[str] | None:
        """The sha256 of the files that his newest trusted manifest has: what of them is here
        already waits for an update. None where that cannot be known, as by a command without the
        settings of the noyau that follows him."""
        if self._repository is None:
            return None if self._catalogue.was_followed() else set()
        try:
            newest = self._repository().last_trusted(datetime.now(UTC)).content
            return {asset.sha256 for asset in Published(newest, self._base).read().assets}
        except (AssetError, SetupError):
            # As when the stick with his root key is away.
            return None
