"""The tiniest worker: answers every message at an endpoint with its pid.

    python -P benchmarks/worker.py ENDPOINT

What the peers of `benchmarks.recovery` supervise, and what its floor starts. It goes with its
parent, so that a peer that is killed leaves nothing behind.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import msgpack
import zmq

LOOK_MS = 1000
"""Between two looks whether the parent is still there."""


def main(endpoint: str) -> None:
    """Answer until the parent is gone."""
    parent = os.getppid()
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.bind(endpoint)
    while os.getppid() == parent:
        if socket.poll(LOOK_MS):
            peer, _ = socket.recv_multipart()
            socket.send_multipart([peer, msgpack.packb(os.getpid())])
    context.destroy(linger=0)


if __name__ == "__main__":
    main(sys.argv[1])
