"""What the store says when the sources did not deliver: pure decisions."""

from pathlib import Path

import pytest

from actors.storage.delivery import SourceError, all_failed
from actors.storage.manifest import Asset
from actors.storage.sources import NotThere
from protocol.errors import AssetCorrupt, AssetUnavailable, MissingDependency, NoyauError

ASSET = Asset(name="x", path="x.bin", size=3, hash=f"sha256-{'a' * 64}")
PATH = Path("/data/assets/x.bin")


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ([], AssetUnavailable),
        ([AssetCorrupt("bad")], AssetCorrupt),
        ([MissingDependency("no pip")], MissingDependency),
        ([AssetCorrupt("bad"), AssetUnavailable("away")], AssetUnavailable),
        ([AssetCorrupt("bad"), AssetCorrupt("worse")], AssetCorrupt),
        ([NotThere("gone"), AssetUnavailable("away")], AssetUnavailable),
    ],
)
def test_failures_of_one_class_stay_it_and_a_mixture_may_be_retried(
    failures: list[SourceError], expected: type[NoyauError]
) -> None:
    error = all_failed(ASSET, PATH, failures)
    assert type(error) is expected
    assert all(failure.message in error.message for failure in failures)


def test_the_way_to_bring_the_file_by_hand_is_always_told() -> None:
    error = all_failed(ASSET, PATH, [AssetUnavailable("away", pip="ERROR: none")])
    assert str(PATH) in error.message
    assert ASSET.sha256 in error.message
    assert error.details == {"path": str(PATH), "sha256": ASSET.sha256, "pip": "ERROR: none"}
