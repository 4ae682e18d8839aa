"""A generation as llama.cpp's request."""

from __future__ import annotations

from typing import Any

from actors.engine.backends import Task


def request_of(task: Task, max_tokens: int) -> dict[str, Any]:
    """All of it but the prompt."""
    sampling = task.sampling
    request: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repeat_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "stop": list(sampling.stop),
        "stream": True,
        "return_progress": True,
        # Brings the id of each token along. Of the probabilities after sampling, as those before it
        # are a softmax over the whole vocabulary: about 6 % slower with four answers at once
        # (two runs of each).
        "logprobs": max(1, task.logprobs or 0),
        "post_sampling_probs": task.logprobs is None,
        # And how many tokens there have been so far: proves that all ids came along.
        "timings_per_token": True,
    }
    if sampling.seed is not None:
        request["seed"] = sampling.seed
    if task.format is not None and task.format.json_schema is not None:
        request["json_schema"] = task.format.json_schema
    if task.format is not None and task.format.grammar:
        request["grammar"] = task.format.grammar
    return request
