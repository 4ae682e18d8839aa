"""How a floor of two plain processes is started: `benchmarks.bare` or `benchmarks.bare_streams`."""

from __future__ import annotations

import contextlib
import sys
import tempfile

from benchmarks.driven import Driven
from benchmarks.system import ROOT


async def start_floor(stack: contextlib.AsyncExitStack, module: str) -> Driven:
    """The process of ``module`` that takes orders; another one serves it until the stack ends."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="noyau-", dir="/tmp"))
    command, endpoint = [sys.executable, "-m", module], f"ipc://{folder}/bare"
    await stack.enter_async_context(Driven([*command, "serve", endpoint], folder=ROOT))
    return await stack.enter_async_context(Driven([*command, "drive", endpoint], folder=ROOT))
