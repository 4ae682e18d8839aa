"""The plain server of OpenAI's interface that xllamacpp starts, in a process of its own.

    python -m benchmarks.bare_server MODEL SLOTS CONTEXT_TOKENS BATCH_TOKENS THREADS

Nobody watches it. Its first line says where it listens.
"""

from __future__ import annotations

import asyncio
import os
import sys

from benchmarks.direct import load
from benchmarks.driven import Values, take_orders


async def _nothing(order: Values) -> Values:
    return order


def main() -> None:
    """Serve until standard input ends."""
    path, *numbers = sys.argv[1:]
    server = load(path, *(int(number) for number in numbers))
    hello = {"address": server.listening_address, "pid": os.getpid()}
    asyncio.run(take_orders(_nothing, hello))
    # An orderly end of a llama.cpp server can hang.
    os._exit(0)


if __name__ == "__main__":
    main()
