"""Keys and values of all slots, in torch.

The memory for all rows is taken when the model is loaded, so that an answer does not fail for lack
of it half-way.
"""

from __future__ import annotations

from typing import Any

from transformers import Cache


class Rows(Cache):  # type: ignore[misc]
    """Keys and values of all slots; transformers writes and reads them layer by layer."""

    def __init__(self, rows: int, context_tokens: int) -> None:
        super().__init__(layers=[])
        self._rows = rows
        self._context_tokens = context_tokens
        self._kept: dict[int, tuple[Any, Any]] = {}
        self._row = slice(0, 0)
        self._active: Any = None
        """Those of the rows that something is kept of; None: the one that is read."""
        self._at: Any = None
        self._length = 0

    def reading(self, row: int, start: int, count: int, length: int) -> None:
        """What comes next are so many tokens of this row; ``length``: looked back on."""
        self._row, self._active = slice(row, row + 1), None
        self._at, self._length = slice(start, start + count), length

    def writing(self, rows: int, active: Any, positions: Any, length: int) -> None:
        """What comes next is one token in each of the first ``rows``; those of the ``active`` ones
        are kept, at these positions. In the others may be prompts that are half read."""
        self._row, self._active = slice(0, rows), active
        self._at, self._length = positions, length

    def update(self, key_states: Any, value_states: Any, layer_idx: int, *_: Any, **__: Any) -> Any:
        """By transformers: keep these, shaped (rows, heads, tokens, numbers); returns all."""
        if layer_idx not in self._kept:
            self._kept[layer_idx] = (self._empty(key_states), self._empty(value_states))
        together = zip(self._kept[layer_idx], (key_states, value_states), strict=True)
        return tuple(self._updated(kept, new) for kept, new in together)

    def _updated(self, kept: Any, new: Any) -> Any:
        if self._active is None:
            kept[self._row, :, self._at] = new
        else:
            kept[self._active, :, self._at] = new[self._active, :, 0]
        return kept[self._row, :, : self._length]

    def _empty(self, like: Any) -> Any:
        _, heads, _, numbers = like.shape
        return like.new_zeros(self._rows, heads, self._context_tokens, numbers)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """By transformers. Every position is told to it, so this is not used for one."""
        return 0

    def forget(self, row: int) -> None:
        """See `Steps.forget`."""
        for both in self._kept.values():
            for kept in both:
                kept[row].zero_()
