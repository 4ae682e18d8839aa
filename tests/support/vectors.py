"""The test vectors in ``tests/vectors/``: bytes with their meaning, for every client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "vectors"


def vectors(name: str) -> list[dict[str, Any]]:
    """Those of one file."""
    found: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text())["vectors"]
    return found


def named(vector: dict[str, Any]) -> str:
    """What a test of it is called."""
    return str(vector["name"])


def unprinted(value: Any) -> Any:
    """A value as it crosses the wire: JSON has no bytes, and says ``{"bytes": "hex"}``."""
    if isinstance(value, dict):
        if value.keys() == {"bytes"}:
            return bytes.fromhex(value["bytes"])
        return {key: unprinted(one) for key, one in value.items()}
    if isinstance(value, list):
        return [unprinted(one) for one in value]
    return value
