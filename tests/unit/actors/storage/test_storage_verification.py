"""Whether a file is trusted without reading it: pure decisions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.storage.verification import (
    MOST_PROOFS,
    TIME_TO_LIVE_S,
    Fingerprint,
    Proof,
    Verdict,
    judge,
    proofs_from_json,
    proofs_to_json,
    uses_of_another_boot,
    with_proof,
)

FOUND = Fingerprint(device=1, inode=2, size=3, mtime_ns=4, ctime_ns=5)
PROOF = Proof(fingerprint=FOUND, sha256="aa", proved_at=100.0, used_at=100.0)


def test_no_file_is_missing_even_with_a_proof() -> None:
    assert judge(None, PROOF, size=3, sha256="aa", now=101) is Verdict.MISSING


def test_a_file_of_another_size_is_wrong_even_with_a_proof() -> None:
    assert judge(FOUND, PROOF, size=4, sha256="aa", now=101) is Verdict.WRONG


def test_an_untouched_proved_file_is_trusted() -> None:
    assert judge(FOUND, PROOF, size=3, sha256="aa", now=101) is Verdict.TRUSTED


def test_a_proof_that_something_speaks_against_is_doubted_while_the_file_is_the_one_it_was_of() -> (
    None
):
    doubted = PROOF.model_copy(update={"doubted": True})
    assert judge(FOUND, doubted, size=3, sha256="aa", now=101) is Verdict.DOUBTED
    assert judge(FOUND, doubted, size=3, sha256="bb", now=101) is Verdict.UNPROVEN
    touched = FOUND.model_copy(update={"ctime_ns": 99})
    assert judge(touched, doubted, size=3, sha256="aa", now=101) is Verdict.UNPROVEN


def test_a_file_without_a_proof_must_be_hashed() -> None:
    assert judge(FOUND, None, size=3, sha256="aa", now=101) is Verdict.UNPROVEN


def test_a_proof_of_another_hash_than_the_one_now_expected_counts_nothing() -> None:
    assert judge(FOUND, PROOF, size=3, sha256="bb", now=101) is Verdict.UNPROVEN


@pytest.mark.parametrize("field", ["device", "inode", "mtime_ns", "ctime_ns"])
def test_any_change_the_kernel_notes_makes_the_proof_worthless(field: str) -> None:
    touched = FOUND.model_copy(update={field: 99})
    assert judge(touched, PROOF, size=3, sha256="aa", now=101) is Verdict.UNPROVEN


@pytest.mark.parametrize(("now", "verdict"), [
    (99.9, Verdict.UNPROVEN),
    (100, Verdict.TRUSTED),
    (100 + TIME_TO_LIVE_S - 1, Verdict.TRUSTED),
    (100 + TIME_TO_LIVE_S, Verdict.UNPROVEN),
])  # fmt: skip
def test_a_proof_has_a_time_to_live(now: float, verdict: Verdict) -> None:
    assert judge(FOUND, PROOF, size=3, sha256="aa", now=now) is verdict


def test_of_too_many_proofs_those_used_longest_ago_go() -> None:
    proofs: dict[str, Proof] = {}
    for number in range(MOST_PROOFS + 5):
        proofs = with_proof(proofs, f"{number}", PROOF.model_copy(update={"used_at": number}))
    assert len(proofs) == MOST_PROOFS
    assert "4" not in proofs
    assert "5" in proofs


def test_what_was_used_in_another_boot_is_known_and_in_this_one_is_none() -> None:
    text = proofs_to_json({"models/x": PROOF}, "boot 1")
    assert uses_of_another_boot(text, "boot 2") == {"aa": 100.0}
    assert uses_of_another_boot(text, "boot 1") == {}
    assert uses_of_another_boot("junk", "boot 1") == {}


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
