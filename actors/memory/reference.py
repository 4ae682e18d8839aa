"""What all-MiniLM-L6-v2 makes of one sentence: the proof that a converted model computes the same.

Computed from the published weights with a plain implementation of BERT in float64, independent of
llama.cpp; rounded to half precision, which moves the cosine by less than 0.000001.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Final

SENTENCE: Final = "A kernel restarts what has crashed, and nothing that was remembered is lost."
DIMENSION: Final = 384
MIN_COSINE: Final = 0.999
"""Half-precision weights reach 0.999999; flipped bits, a wrong vocabulary or pooling do not."""

_VECTOR: Final = (
    "Iig5qMKnVyuVLh0he6yaKCIZYqcsK9MuF6RDp+KrsBioq3Mda6mPposmDCrcqRAsmatEH3Epz6SPo4GnG6kPKx6o"
    "7owXnnEtYKn+p78mw661qdEfHqtOKqYcPyjRKdmtQym3qc0V2yIDITYouS1RkSCrUahhGcgtVKfKq12lxCatLruY"
    "fiXRrpSe2KX4JTUqFCQBITWnUyxIqJGquCSxKPkjPx+eqKahGC4kIvgp/KpQKjak+6p/pEQuN6QwqLUdgC3vHvgi"
    "wSQsKPElgyBsKc8qDqkEJGgoCqWSqHArPaY7JI4rYioHp8GteaYEq90s6KquHS8rgKnmrK0hXKgAgKorLKzPp4oo"
    "Mil/ppqoE6jILweZiSOLoRAmJChlJ2qmhKjxKQyoUSNoH54nm6MMpEYuBSpJJkKpnqWeIYqu6ymypKum2J/1LHao"
    "jKUiqcqoR6d+ommuWK3/oRayOybKKP2gIqbSl1+kFiiBpNqmzSecpdurTSTfL4ssEKjWJbCo6aGVLXAsiae1rLYo"
    "HKWhqO4jvKg8qkcnhqc+rBKpuCe6L3ivVR10pPMoi6IAJtmog6yEpFIoIaVYJH0otakAADSrzCP8qfgpt6ozpmSq"
    "KilXr2+qLyUVmb6o1io/Jk0fTK34rG+g0S36oDKjqiKNoRygaSypqUkpx6ATrCUx7K4MpzkuXi7AKB8iWa1VpAmk"
    "ujALMDmlPizLlIqmfqV/KDAub60+KIKrrqE6KcOopJ6iKEMnox3zqqeoIKlUpOgcFSgnJngnZ5HtqTorYy75LKKn"
    "hq1BH3gsiq/ipjaoD6yGpLyrrKk2IPIqQKjSp+EpSSrKq4GtuSPsq6QshKgAgAejmSy4Ig0rNC83seksFymFqzMp"
    "faWFoh+sciRGLMAnbSd0KHQkkaw5pmOrjCJlKwgpdZ5iMHAssxCSIAGsvaR3KQOgo6fUKKIft6B2LLeoBKjiIzch"
    "QySbpNGd+andpG2hDaeeq7stKoptK7MsKLAGp4wm4CDOpIwiSqi7ppOn"
)


def cosine_to_reference(vector: Sequence[float]) -> float:
    """Cosine similarity of what a model made of `SENTENCE` to what it should have made."""
    reference = struct.unpack(f"<{DIMENSION}e", base64.b64decode(_VECTOR))
    dot = sum(mine * theirs for mine, theirs in zip(vector, reference, strict=True))
    lengths = sum(x * x for x in vector) * sum(x * x for x in reference)
    return float(dot / lengths**0.5) if lengths > 0 else 0.0
