"""The actors of `benchmarks.supervision`: one that does nothing, and one that will not start."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from actors.kernel import Actor

Trouble = Literal["", "crash", "hang"]
HANG_S = 3600.0


class Light(Actor):
    """Is there, and says so."""


class TroubledOptions(BaseModel):
    """The settings of `Troubled`."""

    orders: Path
    """The file that says what it does at its start, a `Trouble`."""


class Troubled(Actor):
    """Starts, crashes in its start, or hangs in it with its event loop held up."""

    async def on_start(self) -> None:
        """Look what is to be done."""
        orders = self.options(TroubledOptions).orders
        what = orders.read_text() if orders.exists() else ""
        if what == "crash":
            os._exit(3)
        if what == "hang":
            time.sleep(HANG_S)  # noqa: ASYNC251 - which is the trouble
