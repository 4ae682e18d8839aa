"""Without its libraries the backend says what brings them."""

from __future__ import annotations

import sys

import pytest

from actors.engine.backends import make_backend
from protocol.errors import MissingDependency

PACKAGE = "actors.engine.backends.transformers_torch"


def test_without_torch_the_extra_that_brings_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, f"{PACKAGE}.backend", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependency, match=r'needs torch: pip install "noyau\[gpu\]"'):
        make_backend("transformers")


def test_without_llama_cpp_another_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "actors.engine.backends.llama_cpp", raising=False)
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingDependency, match=r'needs xllamacpp: pip install "noyau\[engine\]"'):
        make_backend("llama_cpp")
