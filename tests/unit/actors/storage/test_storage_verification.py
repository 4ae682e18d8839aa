"""Whether a file is trusted without reading it: pure decisions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.storage.verification import (
    Fingerprint,
    Proof,
    Verdict,
    judge,
    proofs_from_json,
    proofs_to_json,
)

FOUND = Fingerprint(device=1, inode=2, size=3, mtime_ns=4, ctime_ns=5)
PROOF = Proof(fingerprint=FOUND, sha256="aa")


def test_no_file_is_missing_even_with_a_proof() -> None:
    assert judge(None, PROOF, size=3, sha256="aa") is Verdict.MISSING


def test_a_file_of_another_size_is_wrong_even_with_a_proof() -> None:
    assert judge(FOUND, PROOF, size=4, sha256="aa") is Verdict.WRONG


def test_an_untouched_proved_file_is_trusted() -> None:
    assert judge(FOUND, PROOF, size=3, sha256="aa") is Verdict.TRUSTED


def test_a_file_without_a_proof_must_be_hashed() -> None:
    assert judge(FOUND, None, size=3, sha256="aa") is Verdict.UNPROVEN


def test_a_proof_of_another_hash_than_the_one_now_expected_counts_nothing() -> None:
    assert judge(FOUND, PROOF, size=3, sha256="bb") is Verdict.UNPROVEN


@pytest.mark.parametrize("field", ["device", "inode", "mtime_ns", "ctime_ns"])
def test_any_change_the_kernel_notes_makes_the_proof_worthless(field: str) -> None:
    touched = FOUND.model_copy(update={field: 99})
    assert judge(touched, PROOF, size=3, sha256="aa") is Verdict.UNPROVEN


def test_proofs_are_read_back_in_the_boot_that_wrote_them_and_in_no_other() -> None:
    text = proofs_to_json({"models/x": PROOF}, "boot 1")
    assert proofs_from_json(text, "boot 1") == {"models/x": PROOF}
    assert proofs_from_json(text, "boot 2") == {}


@given(st.binary(max_size=200))
def test_whatever_lies_in_the_cache_file_reading_it_gives_proofs_or_none(junk: bytes) -> None:
    assert proofs_from_json(junk, "boot 1") == {}


@given(st.data())
def test_a_cache_with_a_wrong_byte_never_raises(data: st.DataObject) -> None:
    text = bytearray(proofs_to_json({"models/x": PROOF}, "boot 1").encode())
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    assert len(proofs_from_json(bytes(text), "boot 1")) <= 1
