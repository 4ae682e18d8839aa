"""Metadata with right signatures that says odd things, as a thief with all keys might sign it."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical

from protocol.errors import AssetError
from tests.support.trust import Stage

ODD: list[Any] = [
    None, True, False, 0, -1, 2, 10**30, "", "x", "\u2028", "../x", "a" * 300, "md5", "rsa",
    "2030-13-01T00:00:00Z", "9.9.9", [], ["a"], {}, {"a": {}}, {"sha256": ""}, {"length": -1},
]  # fmt: skip

Place = tuple[str | int, ...]


def places(table: Any, so_far: Place = ()) -> Iterator[Place]:
    """Of everything below a value."""
    below = table.items() if isinstance(table, dict) else enumerate(table)
    for key, value in below:
        yield (*so_far, key)
        if isinstance(value, dict | list):
            yield from places(value, (*so_far, key))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    stage = Stage(tmp_path)
    stage.repository.renew_root()
    return stage


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(role=st.sampled_from(["root", "timestamp"]), data=st.data())
def test_whatever_a_thief_signs_ends_well_or_in_a_typed_error(
    stage: Stage, role: str, data: st.DataObject
) -> None:
    table = json.loads(stage.path(role).read_bytes())
    place = data.draw(st.sampled_from([*places(table["signed"])]))
    inner: Any = table["signed"]
    for key in place[:-1]:
        inner = inner[key]
    if data.draw(st.booleans()):
        inner[place[-1]] = data.draw(st.sampled_from(ODD))
    else:
        del inner[place[-1]]
    signer = stage.signer if role == "timestamp" else stage.keys.signer(stage.root_keys[0])
    signature = signer.sign((encode_canonical(table["signed"]) or "").encode())
    answer = json.dumps(table | {"signatures": [signature.to_dict()]}).encode()
    assume(answer != stage.path(role).read_bytes())
    stage.network.answers = {stage.name(role): lambda: [answer]}
    shutil.rmtree(stage.folder / "client", ignore_errors=True)
    with contextlib.suppress(AssetError):
        stage.client.refresh()
        stage.client.last_trusted(datetime.now(UTC))
    # Nor does what was kept of it stand in the way of the next refresh.
    stage.network.answers = {}
    with contextlib.suppress(AssetError):
        stage.client.refresh()
