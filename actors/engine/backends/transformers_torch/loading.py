"""From a GGUF file to a model in torch and its tokenizer; see `conversion` for what is kept."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Everything lies on this machine; the libraries are not to ask for more.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import llguidance.hf
import safetensors.torch
import torch
import transformers
from tokenizers import Tokenizer

from actors.engine.backends.transformers_torch import conversion
from protocol.errors import InvalidRequest

ENDS = (
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>",
    "<end_of_turn>", "<|return|>", "</s>",
)  # fmt: skip
"""What ends an answer in models that say so in no other place, as llama.cpp knows them by name."""


class Tokens:
    """A model's tokenizer. May be used by several threads at once."""

    def __init__(self, tokenizer: Any, model: Any) -> None:
        self._tokenizer = tokenizer
        self.vocabulary = int(model.config.get_text_config().vocab_size)
        # Two, as what names special tokens in a text is a switch of the whole tokenizer.
        self._special = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._plain = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._plain.encode_special_tokens = True
        for one in (self._special, self._plain):
            one.no_padding()
            one.no_truncation()
        self.ends = _ends(tokenizer, model)
        self.guiding = llguidance.hf.from_tokenizer(
            tokenizer, n_vocab=self.vocabulary, eos_token=sorted(self.ends)
        )

    def prompt(self, turns: Sequence[dict[str, Any]]) -> list[int]:
        """The tokens of a conversation, by the model's own template. Raises `InvalidRequest` where
        that refuses it."""
        try:
            text = self._tokenizer.apply_chat_template(
                list(turns), tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # noqa: BLE001 - a template is a program of the model's
            raise InvalidRequest(f"the model's chat template refuses this: {error}") from None
        return self._ids(self._special, text)

    def plain(self, text: str) -> list[int]:
        """The tokens of text in which no special ones are meant."""
        return self._ids(self._plain, text)

    def bytes_of(self, token: int) -> bytes:
        """What a token says: nothing for special ones."""
        if token >= self.vocabulary or self.guiding.is_special_token(token):
            return b""
        return bytes(self.guiding.decode_bytes([token]))

    def text_of(self, tokens: Sequence[int]) -> str:
        """What tokens say together."""
        return b"".join(map(self.bytes_of, tokens)).decode(errors="replace")

    def _ids(self, tokenizer: Any, text: str) -> list[int]:
        return [int(one) for one in tokenizer.encode(text, add_special_tokens=False).ids]


def _ends(tokenizer: Any, model: Any) -> frozenset[int]:
    known = tokenizer.get_vocab()
    found: set[int] = {known[name] for name in ENDS if name in known}
    configs = (model.config.get_text_config(), model.generation_config, tokenizer)
    for named in (getattr(one, "eos_token_id", None) for one in configs):
        found.update(named if isinstance(named, list) else [named] if named is not None else [])
    return frozenset(found)


def load(path: Path, model: str, device: str, kept: Path | None) -> tuple[Any, Any]:
    """The model, on its device, and its tokenizer. ``kept``: where its conversion is, or goes.
    Raises whatever the libraries do."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    dtype = dtype_for(device)
    if kept is None:
        return _from_gguf(path, dtype, device)
    named = (model, str(dtype).removeprefix("torch."), transformers.__version__)
    folder = kept / conversion.name_of(*named)
    boot = conversion.this_boot()
    with conversion.locked(kept):
        if conversion.usable(folder, boot):
            # Whatever is wrong with it, it can be made again.
            with contextlib.suppress(OSError, ValueError, RuntimeError, KeyError):
                return _from_folder(folder, dtype, device)
        shutil.rmtree(folder, ignore_errors=True)
        conversion.sweep(kept, *named)
        loaded = _from_gguf(path, dtype, "cpu")
        # Without room for it, it is converted again next time.
        with contextlib.suppress(OSError, safetensors.SafetensorError):
            conversion.publish(folder, lambda to: _write(to, *loaded), boot)
    return loaded[0].to(device), loaded[1]


def dtype_for(device: str) -> Any:
    """bfloat16 on a GPU that has it, as numbers that are too large for float16 are none; on the
    CPU float32, which is faster there than anything shorter."""
    if device == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _from_gguf(path: Path, dtype: Any, device: str) -> tuple[Any, Any]:
    named = {"gguf_file": path.name, "local_files_only": True}
    # The model first: it is the one that notices what is wrong with the file.
    model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, dtype=dtype, **named)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, **named)
    return model.eval().to(device), tokenizer


def _from_folder(folder: Path, dtype: Any, device: str) -> tuple[Any, Any]:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, local_files_only=True, use_safetensors=True,
        device_map=None if device == "cpu" else {"": device},
    )  # fmt: skip
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return model.eval(), tokenizer


def _write(to: Path, model: Any, tokenizer: Any) -> None:
    # Not by the model's own method, which refuses what came from quantised weights.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    weights: dict[str, Any] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict().items():
        # Tied ones are one tensor under two names, and are tied again when they are loaded.
        if tensor.data_ptr() not in seen:
            weights[name] = tensor.contiguous()
        seen.add(tensor.data_ptr())
    safetensors.torch.save_file(weights, to / "model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(to)
    model.generation_config.save_pretrained(to)
    tokenizer.save_pretrained(to)
