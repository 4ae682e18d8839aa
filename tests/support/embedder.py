"""An embedding model without a model: texts that share words have vectors that are alike."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Sequence

from protocol.errors import EngineFailed

DIMENSION = 64


class SimulatedEmbedder:
    """Implements `Embedder`: the sum of one fixed direction for each word. Notes its batches.

    The same text has the same vector in every process; texts without a common word are nearly at
    right angles.
    """

    dimension = DIMENSION

    def __init__(self, identity: str = "simulated") -> None:
        self.identity = identity
        self.batches: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> list[bytes]:
        self.batches.append(list(texts))
        if "FAIL" in texts:
            raise EngineFailed("it was told to fail")
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> bytes:
        total = [0.0] * DIMENSION
        for word in text.lower().split() or [text]:
            for i, x in enumerate(self._direction(word)):
                total[i] += x
        length = math.sqrt(sum(x * x for x in total)) or 1.0
        return struct.pack(f"<{DIMENSION}f", *(x / length for x in total))

    def _direction(self, word: str) -> list[float]:
        seed = hashlib.shake_256(f"{self.identity} {word}".encode()).digest(DIMENSION)
        return [byte - 127.5 for byte in seed]
