"""Those who watch a noyau are told when that begins."""

from __future__ import annotations

import pytest

from protocol.messages.supervisor import Events, Happened
from supervision.watchers import Watchers


def nobody(name: str) -> None:
    raise AssertionError(f"nobody asked for {name}")


async def test_who_watches_is_told_at_once_that_it_began_and_then_of_all_that_happens() -> None:
    watchers = Watchers(nobody)  # type: ignore[arg-type]
    watchers.happened(Happened(what="file.before"))
    stream = watchers.events("file.")
    assert await anext(stream) == Events(events=[])
    watchers.happened(Happened(what="file.quarantined"))
    watchers.happened(Happened(what="actor.died"))
    watchers.happened(Happened(what="file.stays"))
    told = await anext(stream)
    assert isinstance(told, Events)
    assert [event.what for event in told.events] == ["file.quarantined", "file.stays"]
    await stream.aclose()
    watchers.happened(Happened(what="file.after"))
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
