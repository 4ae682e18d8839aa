"""Which server it is, by what it says of itself and its models. Pure.

OpenAI's API says neither how long a context is nor how an answer is gone on with, and servers
differ in both. Those whose ways are known are told by the owner that they name in their list of
models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from protocol.errors import EngineFailed

Kind = Literal["llama_cpp", "vllm", "sglang", "other"]

_OWNERS: dict[str, Kind] = {"llamacpp": "llama_cpp", "vllm": "vllm", "sglang": "sglang"}
"""What each writes into `owned_by`."""
_NAMED = 10
"""So many models are named to who asks for one that there is not."""


@dataclass(frozen=True, slots=True)
class Server:
    """What is known of it."""

    kind: Kind
    model: str
    """By its name there."""
    context_tokens: int = 0
    """Of one answer and its prompt; 0: it does not say."""
    version: tuple[int, int] = (0, 0)
    """(0, 0): it does not say."""

    @property
    def model_name(self) -> str:
        """For people: llama-server's own name of a model is the path of its file."""
        path = self.model.replace("\\", "/")
        return path.rpartition("/")[2].removesuffix(".gguf") if path.endswith(".gguf") else path


def find_server(models: Any, wanted: str, kind: Kind | Literal["auto"], url: str) -> Server:
    """From the answer of ``/models``. Raises `EngineFailed` when that is none, or has no such
    model; ``wanted`` is empty for any."""
    listed = models.get("data") if isinstance(models, dict) else None
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise EngineFailed(
            f"{url}/models answers with no list of models: it speaks no OpenAI-compatible API; "
            "give the URL under which it does, which mostly ends in /v1"
        )
    if not listed:
        raise EngineFailed(f"{url} has no model: load one there")
    chosen = next((one for one in listed if not wanted or wanted in _names(one)), None)
    if chosen is None:
        names = [str(one.get("id")) for one in listed]
        there = ", ".join(names[:_NAMED]) + (" and others" if len(names) > _NAMED else "")
        raise EngineFailed(f"{url} has no model {wanted!r} (remote_model); there are: {there}")
    if kind == "auto":
        kind = _OWNERS.get(str(chosen.get("owned_by")), "other")
    meta = chosen.get("meta")
    context = chosen.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, dict) else 0)
    return Server(kind, wanted or str(chosen.get("id", "")), context_of(context))


def context_of(value: Any) -> int:
    """A number of tokens, or 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def slot_context(props: Any) -> int:
    """Of llama-server's ``/props``: the context of one slot; 0 where it does not say."""
    defaults = props.get("default_generation_settings") if isinstance(props, dict) else None
    return context_of(defaults.get("n_ctx") if isinstance(defaults, dict) else None)


def version_of(answer: Any) -> tuple[int, int]:
    """Of vLLM's ``/version``."""
    text = str(answer.get("version", "")) if isinstance(answer, dict) else ""
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def _names(model: dict[str, Any]) -> list[Any]:
    aliases = model.get("aliases")
    return [model.get("id"), *(aliases if isinstance(aliases, list) else [])]
