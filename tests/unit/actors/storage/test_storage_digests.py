"""How hashes are written and read."""

import base64
import hashlib

import pytest

from actors.storage.digests import digest_of, hasher_of, normal_digest, normal_sha256


def test_hex_and_base64_are_one_digest() -> None:
    raw = hashlib.sha256(b"x").digest()
    for digits in (raw.hex(), raw.hex().upper(), base64.b64encode(raw).decode()):
        assert normal_digest(f"sha256-{digits}") == digest_of(b"x", "sha256")


def test_blake3_is_blake3() -> None:
    # The hash of nothing, from the BLAKE3 paper's test vectors.
    empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert digest_of(b"", "blake3") == f"blake3-{empty}"
    assert hasher_of("blake3").hexdigest() == empty


@pytest.mark.parametrize(
    "text",
    ["", "sha256", "sha256-", "sha256-12", "md5-" + "a" * 64, "a" * 64, "sha256-" + "g" * 64],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        normal_digest(text)


def test_a_whole_files_hash_is_sha256() -> None:
    with pytest.raises(ValueError, match="must be sha256"):
        normal_sha256("blake3-" + "a" * 64)
