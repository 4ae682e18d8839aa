"""Every contract's suite runs on every transport there is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.wirings import WIRINGS, Wiring


@pytest.fixture(params=WIRINGS)
def wiring(request: pytest.FixtureRequest) -> Iterator[Wiring]:
    wiring = WIRINGS[request.param]()
    yield wiring
    wiring.close()
    assert not wiring.complaints
