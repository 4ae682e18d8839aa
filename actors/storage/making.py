"""A guardian as the settings want it: for the storage actor, and for the command."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from actors.storage.bandwidth import Bandwidth
from actors.storage.catalogue import Catalogue
from actors.storage.following import Following
from actors.storage.guardian import Guardian
from actors.storage.layout import Layout
from actors.storage.outcomes import ListDamaged, Observe
from actors.storage.sources import FileSource, HttpSource, PypiSource
from actors.storage.store import AssetStore
from configs.actor_settings import StorageSettings
from protocol.errors import InvalidSettings

if TYPE_CHECKING:
    from actors.storage.sources.web import Web
    from actors.storage.trust.client import TrustedRepository

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def make_guardian(
    folder: Path,
    options: StorageSettings,
    observe: Observe,
    pause: Callable[[float], None] = time.sleep,
) -> Guardian:
    """Raises ``InvalidSettings`` and ``UnusableKey``; damaged lists in the folder are told to
    ``observe``, and what is right is in force."""
    layout = Layout(folder.absolute())
    web = _lazily(options)
    catalogue = Catalogue(layout, options.manifest)
    manifest, problems = catalogue.as_far_as_it_goes()
    for problem in problems:
        observe(ListDamaged(problem))
    store = AssetStore(
        folder,
        manifest,
        # The machine's boot, not ours: a proof that a file is whole lasts until then.
        boot_id=BOOT_ID.read_text().strip(),
        sources={
            "file": FileSource(),
            "http": HttpSource(web),
            "pypi": PypiSource(
                options.stall_timeout_s, kept=layout.wheels if options.keep_wheels else None
            ),
        },
        observe=observe,
        pause=pause,
        bandwidth=Bandwidth(options.bandwidth_bytes_per_s),
        connections=options.connections,
    )
    following = Following(
        catalogue, store.fetcher, _repository(layout, options, web), _base(options)
    )
    return Guardian(store, catalogue, following)


def _lazily(options: StorageSettings) -> Callable[[], Web]:
    """The one client for web servers, made when it is first needed: its library takes longer to
    import than all else that storage does at a start."""

    @cache
    def web() -> Web:
        from actors.storage.sources.web import Web

        return Web(
            stall_timeout_s=options.stall_timeout_s,
            allow_private_redirects=options.private_redirects,
        )

    return web


def _base(options: StorageSettings) -> str:
    return f"{(options.repository or '').rstrip('/')}/" if options.repository else ""


def _repository(
    layout: Layout, options: StorageSettings, web: Callable[[], Web]
) -> Callable[[], TrustedRepository] | None:
    address = options.repository
    if address is None:
        return None
    where = "actors.storage.settings.repository_root"
    if options.repository_root is None:
        raise InvalidSettings(
            f"{where} is not set: the path of the publisher's root.json, without which nothing of "
            f"{address} can be trusted"
        )
    path = options.repository_root

    @cache
    def repository() -> TrustedRepository:
        from actors.storage.trust.client import TrustedRepository
        from actors.storage.trust.download import from_anywhere

        try:
            root = path.read_bytes()
        except OSError as error:
            raise InvalidSettings(
                f"{where}: {path}: {error.strerror}; get it from the publisher"
            ) from error
        return TrustedRepository(layout.trust, address, root, from_anywhere(web()))

    return repository
