"""The model itself, in torch: reads prompts, writes tokens, chooses among them.

Empty rows are computed along with those in use, and nobody looks at them; see `batch`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from actors.engine.backends.transformers_torch.batch import rows_to_compute, tokens_to_look_at
from actors.engine.backends.transformers_torch.choosing import choose, wanted
from actors.engine.backends.transformers_torch.loading import Tokens
from actors.engine.backends.transformers_torch.requests import Chosen, Want
from actors.engine.backends.transformers_torch.rows import Rows
from protocol.errors import EngineFailed, EngineGarbage, NoyauError
from protocol.messages.engine import Alternative, TokenLogprob

FULL, SLIDING = "full_attention", "sliding_attention"
"""The kinds of layers that keys and values in rows serve, as transformers calls them."""
NO_NUMBERS = "the model computes with numbers that are none (NaN or infinite)"
_NO_MEMORY = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
_BROKEN = (
    "device-side assert", "illegal memory access", "misaligned address", "illegal instruction",
    "unspecified launch failure", "launch timed out", "hardware stack error",
    "shared address space", "invalid program counter", "uncorrectable ECC error",
)  # fmt: skip
"""In cudaGetErrorString's words: the errors of which the CUDA Runtime API says that they leave the
process in an inconsistent state, and that it must be ended to go on."""


class Forward:
    """See `Steps`."""

    def __init__(self, model: Any, rows: int, context_tokens: int, tokens: Tokens) -> None:
        """Raises `EngineFailed` for a model that computes otherwise than by attention to all tokens
        or to the last ones."""
        self.ends = tokens.ends
        self.model = model
        self._tokens = tokens
        self._context_tokens = context_tokens
        self._count = rows
        self._sliding, self._mixed = _attention(model.config.get_text_config())
        parameters = inspect.signature(model.forward).parameters
        self._cache_name = "cache" if "cache" in parameters else "past_key_values"
        if self._cache_name not in parameters:
            raise EngineFailed(f"{type(model).__name__} keeps no keys and values of its tokens")
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        self._rows = Rows(rows, context_tokens)
        # Takes the memory of all rows, and finds out what this model cannot do.
        self.read(0, [0], 0)

    def read(self, row: int, tokens: Sequence[int], start: int) -> Any:
        """See `Steps.read`."""
        length = tokens_to_look_at(start + len(tokens), self._context_tokens)
        self._rows.reading(row, start, len(tokens), length)
        positions = torch.arange(start, start + len(tokens), device=self._device)[None]
        return self._run(torch.tensor([list(tokens)], device=self._device), positions, length)

    def write(self, last: dict[int, tuple[int, int]]) -> Any:
        """See `Steps.write`."""
        rows = rows_to_compute(max(last), self._count)
        length = tokens_to_look_at(max(at for _, at in last.values()) + 1, self._context_tokens)
        everywhere = [last.get(row, (0, 0)) for row in range(rows)]
        tokens, positions = torch.tensor(everywhere, device=self._device)[..., None].unbind(1)
        active = torch.tensor(list(last), device=self._device)
        self._rows.writing(rows, active, positions[active, 0], length)
        return self._run(tokens, positions, length)[active]

    @property
    def _device(self) -> Any:
        return self.model.device

    def _run(self, tokens: Any, positions: Any, length: int) -> Any:
        """The logits behind the last token of each row, as 32-bit floats."""
        with torch.inference_mode():
            output = self.model(
                input_ids=tokens, position_ids=positions, use_cache=True,
                attention_mask=self._masks(positions, length),
                **{self._cache_name: self._rows}, **self._last_only,
            )  # fmt: skip
            return output.logits[:, -1].float()

    def _masks(self, positions: Any, length: int) -> Any:
        """Each token looks at itself and those before it in its row: what is added to the scores,
        shaped (rows, 1, tokens, length)."""
        back = positions[:, None, :, None] - torch.arange(length, device=self._device)
        full = self._added(back >= 0)
        if self._sliding is None:
            return full
        sliding = self._added((back >= 0) & (back < self._sliding))
        return {FULL: full, SLIDING: sliding} if self._mixed else sliding

    def _added(self, seen: Any) -> Any:
        lowest = torch.finfo(self.model.dtype).min
        nothing = torch.zeros((), dtype=self.model.dtype, device=self._device)
        return nothing.expand(seen.shape).masked_fill(~seen, lowest)

    def forget(self, row: int) -> None:
        """See `Steps.forget`."""
        with torch.inference_mode():
            self._rows.forget(row)

    def release(self) -> None:
        """See `Steps.release`."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def is_out_of_memory(self, error: Exception) -> bool:
        """See `Steps.is_out_of_memory`."""
        return is_out_of_memory(error)

    def is_broken(self, error: Exception) -> bool:
        """See `Steps.is_broken`."""
        return is_broken(error)

    # --- choosing -------------------------------------------------------------------------

    def choose(self, logits: Any, wants: Sequence[Want]) -> list[Chosen | NoyauError]:
        """See `Steps.choose`."""
        with torch.inference_mode():
            return self._choose(logits, wants)

    def _choose(self, logits: Any, wants: Sequence[Want]) -> list[Chosen | NoyauError]:
        told = [i for i, want in enumerate(wants) if want.logprobs is not None]
        likely = dict(zip(told, torch.log_softmax(logits[told], -1), strict=True)) if told else {}
        finite = torch.isfinite(logits).all(-1)
        for row, want in zip(logits, wants, strict=True):
            self._change(row, want)
        counts = [wanted(want.sampling) or logits.shape[-1] for want in wants]
        most = min(max(counts), logits.shape[-1])
        values, ids = (one.cpu().numpy() for one in torch.topk(logits, most))
        chosen: list[Chosen | NoyauError] = []
        for i, (want, fine) in enumerate(zip(wants, finite.tolist(), strict=True)):
            if not fine:
                chosen.append(EngineGarbage(NO_NUMBERS))
                continue
            usable = int(np.isfinite(values[i][: counts[i]]).sum())
            if not usable:
                chosen.append(EngineFailed("the answer's format allows no token at all"))
                continue
            token = int(ids[i][choose(values[i][:usable], want.sampling, want.draw)])
            logprob = self._told(likely[i], token, want.logprobs or 0) if i in likely else None
            chosen.append(Chosen(token, logprob))
        return chosen

    def _change(self, row: Any, want: Want) -> None:
        """Take penalties off one answer's logits, and what its format does not allow."""
        if want.penalty is not None:
            ids = [one for one in want.penalty.counts if one < len(row)]
            lower = [want.penalty.of(i, x) for i, x in zip(ids, row[ids].tolist(), strict=True)]
            row[ids] = torch.tensor(lower, dtype=row.dtype, device=row.device)
        if want.allowed is not None:
            allowed = torch.from_numpy(want.allowed).to(row.device)
            row.masked_fill_(~allowed, float("-inf"))

    def _told(self, likely: Any, token: int, others: int) -> TokenLogprob:
        values, ids = torch.topk(likely, max(1, others))
        top = [
            Alternative(text=self._tokens.text_of([one]), logprob=value)
            for value, one in zip(values.tolist(), ids.tolist(), strict=True)
        ]
        text = self._tokens.text_of([token])
        return TokenLogprob(text=text, logprob=float(likely[token]), top=top[:others])


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device had no memory for it."""
    # Of the CPU's memory, torch tells in words alone.
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY)
    )


def is_broken(error: Exception) -> bool:
    """Whether the device computes nothing more for this process: after such an error CUDA answers
    every call with it, and only another process can use the device."""
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _BROKEN)


def _attention(config: Any) -> tuple[int | None, bool]:
    """How many tokens a sliding layer looks back (None: there is no such layer), and whether there
    are both kinds. Raises `EngineFailed` for a model that has others."""
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ([SLIDING] if window else [FULL]))
    if not kinds <= {FULL, SLIDING}:
        others = ", ".join(sorted(kinds - {FULL, SLIDING}))
        raise EngineFailed(
            f"this backend knows no layers of the kind {others}; run the model with llama_cpp"
        )
    return (window, FULL in kinds) if SLIDING in kinds else (None, False)
