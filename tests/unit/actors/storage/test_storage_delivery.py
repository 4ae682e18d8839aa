"""What the store says when the sources did not deliver: pure decisions."""

from pathlib import Path

import pytest

from actors.storage.delivery import SourceError, all_failed, check_delivery
from actors.storage.manifest import Asset
from protocol.errors import AssetCorrupt, AssetUnavailable, MissingDependency, NoyauError

ASSET = Asset(name="x", path="x.bin", size=3, sha256="a" * 64, description="x", licence="MIT")
PATH = Path("/data/assets/x.bin")


def test_a_delivery_of_the_right_size_and_hash_passes() -> None:
    check_delivery(ASSET, 3, "a" * 64)


def test_a_short_delivery_is_corrupt() -> None:
    with pytest.raises(AssetCorrupt, match="2 of 3 bytes"):
        check_delivery(ASSET, 2, "a" * 64)


def test_a_delivery_with_another_hash_is_corrupt_and_both_hashes_are_told() -> None:
    with pytest.raises(AssetCorrupt) as caught:
        check_delivery(ASSET, 3, "b" * 64)
    assert caught.value.details == {"found_sha256": "b" * 64, "expected_sha256": "a" * 64}


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ([], AssetUnavailable),
        ([AssetCorrupt("bad")], AssetCorrupt),
        ([MissingDependency("no pip")], MissingDependency),
        ([AssetCorrupt("bad"), AssetUnavailable("away")], AssetUnavailable),
        ([AssetCorrupt("bad"), AssetCorrupt("worse")], AssetCorrupt),
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
