"""The pypi source's decisions: what pip's words mean, when a download stalls, which zip members
are refused. The source itself runs in the contract suite."""

import io
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.storage.sources import Order, PypiSource, PypiSpec
from actors.storage.sources.pypi import StallWatch, explain_pip
from actors.storage.sources.wheel import MOST_AT_ONCE, refuse_unfit, unpack
from protocol.errors import AssetCorrupt, AssetUnavailable, MissingDependency


def test_a_download_that_stays_at_one_size_for_the_limit_has_stalled() -> None:
    watch = StallWatch(limit_s=10, now=0)
    assert not watch.stalled(5, now=9)
    assert not watch.stalled(5, now=18)
    assert watch.stalled(5, now=19)


def test_a_download_that_grows_slowly_never_stalls() -> None:
    watch = StallWatch(limit_s=10, now=0)
    assert not any(watch.stalled(amount, now=amount * 9.0) for amount in range(1, 50))


def test_a_size_that_shrinks_and_returns_is_no_growth() -> None:
    watch = StallWatch(limit_s=10, now=0)
    assert not watch.stalled(5, now=1)
    assert not watch.stalled(2, now=5)
    assert watch.stalled(5, now=11)


def test_pips_last_error_line_is_kept_and_its_warnings_are_not() -> None:
    said = "WARNING: Location x is ignored\nERROR: first\nERROR: No matching y\nWARNING: bye\n"
    error = explain_pip(said, 1, "tiny==1.0")
    assert isinstance(error, AssetUnavailable)
    assert error.details == {"pip": "ERROR: No matching y"}
    assert "check the network or pip's index settings" in error.message


def test_a_silent_death_of_pip_is_told_by_its_status() -> None:
    error = explain_pip("WARNING: x\n", -9, "tiny==1.0")
    assert isinstance(error, AssetUnavailable)
    assert error.details == {"pip": "pip ended with status -9"}


def test_a_python_without_pip_is_a_missing_dependency_that_names_the_extra() -> None:
    error = explain_pip("/usr/bin/python3: No module named pip\n", 1, "tiny==1.0")
    assert isinstance(error, MissingDependency)
    assert 'pip install "noyau[storage]"' in error.message


def test_a_full_disk_in_pips_words_is_the_operating_systems_error_again() -> None:
    said = "ERROR: Could not install packages: [Errno 28] No space left on device\n"
    assert isinstance(explain_pip(said, 1, "tiny==1.0"), OSError)


def test_the_space_needed_covers_pips_copy_of_the_wheel() -> None:
    spec = PypiSpec(requirement="t==1", member="m", wheel_size=100)
    assert PypiSource().space_needed(spec, 30) == 200


@pytest.mark.parametrize(
    ("change", "value", "reason"),
    [
        ("file_size", 1 << 40, "unpacks to"),
        ("compress_type", zipfile.ZIP_BZIP2, "compressed"),
        ("compress_type", zipfile.ZIP_LZMA, "compressed"),
        ("flag_bits", 0x1, "encrypted"),
    ],
)
def test_a_member_that_is_not_as_promised_is_refused_unopened(
    change: str, value: int, reason: str
) -> None:
    info = zipfile.ZipInfo("m")
    info.file_size = 10
    refuse_unfit(info, 10)
    setattr(info, change, value)
    with pytest.raises(AssetCorrupt, match=reason):
        refuse_unfit(info, 10)


MEMBER = bytes(range(256)) * 8


def archive(compression: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        made.writestr("d/m", MEMBER)
    return file.getvalue()


def order(scratch: Path, size: int = len(MEMBER)) -> Order:
    return Order("a", size, scratch, lambda _: None, lambda: False)


def unpacked(raw: bytes | bytearray, folder: Path) -> bytes:
    wheel = folder / "w.whl"
    wheel.write_bytes(raw)
    return b"".join(unpack(wheel, "d/m", order(folder)))


@given(data=st.data(), compression=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_a_damaged_archive_gives_the_right_bytes_or_is_corrupt(
    tmp_path: Path, data: st.DataObject, compression: int
) -> None:
    raw = bytearray(archive(compression))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        came = unpacked(raw, tmp_path)
    except AssetCorrupt:
        return
    assert came == MEMBER


def test_a_member_that_begins_further_on_than_any_file_reaches_is_corrupt(tmp_path: Path) -> None:
    raw = bytearray(archive(zipfile.ZIP_STORED))
    listed, end = raw.index(b"PK\x01\x02"), raw.index(b"PK\x05\x06")
    far_away = struct.pack("<HHQ", 1, 8, 2**64 - 1)
    struct.pack_into("<H", raw, listed + 30, len(far_away))
    struct.pack_into("<I", raw, listed + 42, 0xFFFFFFFF)
    struct.pack_into("<I", raw, end + 12, end - listed + len(far_away))
    raw[end:end] = far_away
    with pytest.raises(AssetCorrupt, match="damaged"):
        unpacked(raw, tmp_path)


def test_a_list_of_members_that_would_fill_the_memory_is_refused_unread(tmp_path: Path) -> None:
    raw = archive(zipfile.ZIP_STORED)
    listed, end = raw.index(b"PK\x01\x02"), raw.index(b"PK\x05\x06")
    entry, count = raw[listed:end], MOST_AT_ONCE // (end - listed) + 1
    directory = entry * count
    closing = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), listed, 0)
    with pytest.raises(AssetCorrupt, match=f"list of members has {len(directory)} bytes"):
        unpacked(raw[:listed] + directory + closing, tmp_path)


def test_a_wheel_that_grows_past_what_the_manifest_promises_is_cut_off(tmp_path: Path) -> None:
    endless = 'head -c 17000000 /dev/zero > "$TMPDIR/wheel"; tail -f /dev/null'
    source = PypiSource(python=("sh", "-c", endless))
    spec = PypiSpec(requirement="t==1", member="m", wheel_size=100)
    with pytest.raises(AssetCorrupt, match="larger than the 100 bytes"):
        list(source.read(spec, 0, 10, order(tmp_path, 10)))
