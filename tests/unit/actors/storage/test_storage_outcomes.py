"""What storage tells: people read it, in the log and on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from actors.storage.outcomes import LeftoverStays, ProofNotKept, SourceFailed, StoreEvent
from protocol.errors import AssetUnavailable


@pytest.mark.parametrize("kind", get_args(StoreEvent))
def test_every_event_is_a_sentence_of_its_own(kind: type[StoreEvent]) -> None:
    assert "__str__" in vars(kind)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            SourceFailed("tiny", "http", AssetUnavailable("https://a.example/x gave no answer")),
            "tiny did not come by http: https://a.example/x gave no answer",
        ),
        (
            ProofNotKept("tiny", "[Errno 28] No space left on device"),
            "tiny is right, and is read once more before its next use, because that could not be "
            "written down: [Errno 28] No space left on device",
        ),
        (
            LeftoverStays(Path("/data/tmp/a"), "[Errno 16] Device or resource busy"),
            "/data/tmp/a, which nobody needs, could not be removed yet: [Errno 16] Device or "
            "resource busy",
        ),
    ],
)
def test_an_event_says_what_happened_and_why(event: StoreEvent, said: str) -> None:
    assert str(event) == said
