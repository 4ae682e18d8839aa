"""How manifests lie on each other: noyau's, a publisher's, the user's own, his pins. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from contextlib import suppress

from actors.storage.manifest import Asset, Manifest, merged
from protocol.errors import InvalidSettings


def together(theirs: Sequence[Manifest], own: Sequence[Manifest]) -> Manifest:
    """One manifest out of several, the user's own last. A file of his own whose fallback is in
    none of them goes on without: he keeps the file, whatever a publisher has beside it.

    Raises ``InvalidSettings`` where they contradict each other.
    """
    names = {"", *(asset.name for layer in (*theirs, *own) for asset in layer.assets)}
    kept = [
        layer.model_copy(update={"assets": tuple(_without_lost(layer.assets, names))})
        for layer in own
    ]
    return merged([*theirs, *(layer for layer in kept if layer.assets)])


def _without_lost(assets: Sequence[Asset], names: Set[str]) -> Iterator[Asset]:
    for asset in assets:
        lost = asset.fallback not in names
        yield asset.model_copy(update={"fallback": ""}) if lost else asset


def as_far_as_they_fit(
    first: Manifest, theirs: Sequence[Manifest], own: Sequence[Manifest]
) -> tuple[Manifest, list[str]]:
    """The same with those left out that contradict the ones before them; and what is wrong with
    those."""
    try:
        return together([first, *theirs], own), []
    except InvalidSettings:
        # One by one, and it shows which of them does not fit.
        so_far, problems = first, list[str]()
    for more, mine in (*(([each], []) for each in theirs), *(([], [each]) for each in own)):
        try:
            so_far = together([so_far, *more], mine)
        except InvalidSettings as error:
            problems.append(error.message)
    return so_far, problems


def in_the_way(own: Manifest, theirs: Sequence[Manifest], others: Manifest) -> list[str]:
    """Names of those of the user's own files without which alone the rest fits together."""
    found = []
    for asset in own.assets:
        kept = [each for each in own.assets if each.name != asset.name]
        with suppress(InvalidSettings):
            together(theirs, [others, Manifest.layer(kept)])
            found.append(asset.name)
    return found
