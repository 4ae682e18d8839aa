"""The floor of `benchmarks.generation`: xllamacpp called directly, in a process of its own.

Reads one JSON line per round, ``{"prompts": [...], "max_tokens": N}``, runs all of them side by
side and writes ``{"tokens": N, "seconds": S, "first_ms": [...]}``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

import xllamacpp


def load(path: str, slots: int, context_tokens: int, batch_tokens: int, threads: int) -> Any:
    """The model, with the settings that noyau's engine gives it."""
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx, params.n_parallel = context_tokens, slots
    params.n_batch = params.n_ubatch = batch_tokens
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.cache_ram_mib = 256
    params.verbosity = -1
    return xllamacpp.Server(params)


class Answer:
    """One streamed completion in a thread of its own."""

    def __init__(self, server: Any, prompt: str, max_tokens: int) -> None:
        self.tokens = 0
        self.first_ms = 0.0
        self._server = server
        self._request = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens, "temperature": 0, "stream": True,
        }  # fmt: skip
        self._began = 0.0

    def run(self) -> None:
        """Generate to the end."""
        self._began = time.perf_counter()
        self._server.handle_chat_completions(self._request, self._take)

    def _take(self, chunk: dict[str, Any]) -> None:
        delta = chunk["choices"][0].get("delta") or {}
        if delta.get("content") and not self.first_ms:
            self.first_ms = (time.perf_counter() - self._began) * 1000
        timings = chunk.get("timings")
        if timings:
            self.tokens = int(timings["predicted_n"])


def main() -> None:
    """Serve rounds until standard input ends."""
    path, *numbers = sys.argv[1:]
    server = load(path, *(int(number) for number in numbers))
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        answers = [Answer(server, prompt, order["max_tokens"]) for prompt in order["prompts"]]
        threads = [threading.Thread(target=answer.run) for answer in answers]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - began
        result = {
            "tokens": sum(answer.tokens for answer in answers), "seconds": seconds,
            "first_ms": [answer.first_ms for answer in answers],
        }  # fmt: skip
        print(json.dumps(result), flush=True)
    # An orderly end of a llama.cpp server can hang.
    os._exit(0)


if __name__ == "__main__":
    main()
