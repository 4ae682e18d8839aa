"""What the fuzzer begins with, and what it once found, is taken without harm. More: `make fuzz`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz import targets

CORPUS = Path(targets.__file__).parent / "corpus"
SEEDS = [*targets.seeds(), *(path.read_bytes() for path in sorted(CORPUS.iterdir()))]


@pytest.mark.parametrize("name", targets.TARGETS)
def test_every_seed_is_taken_without_harm(name: str) -> None:
    target = targets.TARGETS[name]()
    for seed in SEEDS:
        target(seed)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_seeds_with_something_changed_are_taken_without_harm(name: str) -> None:
    target, chance = targets.TARGETS[name](), random.Random(1)
    for seed in SEEDS:
        if not seed:
            continue
        for _ in range(5):
            changed = bytearray(seed[:2000])
            at = chance.randrange(len(changed))
            changed[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
            target(bytes(changed))
