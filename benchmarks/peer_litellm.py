"""Answers of two servers through litellm's Router: run by the peers' own environment.

    .venv-peers/bin/python -m benchmarks.peer_litellm

The first server is asked, and the second is its fallback. As litellm comes it raises the error of a
server that is lost behind the first text. Where it is told to (``continues``), it asks the fallback
to go on: an assistant's turn with the text so far, which each model's own chat template continues
or not.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import signal
from typing import Any

from benchmarks.driven import Values, take_orders

ENVIRON = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "CRITICAL"}
"""It fetches nothing from elsewhere."""
MODELS = ("first", "second")


def _router(addresses: list[str], continues: bool) -> Any:
    from litellm import Router

    servers = [
        {
            "model_name": name,
            "litellm_params": {
                "model": "openai/model", "api_base": f"{address}/v1", "api_key": "none",
            },
            "model_info": {"supports_assistant_prefill": continues},
        }
        for name, address in zip(MODELS, addresses, strict=True)
    ]  # fmt: skip
    more = {"enable_mid_stream_fallback_continuation": True} if continues else {}
    return Router(
        model_list=servers, fallbacks=[{MODELS[0]: [MODELS[1]]}], num_retries=2, **more
    )  # fmt: skip


async def answer(order: Values) -> Values:
    """Read one answer; kill the process ``kill`` once ``after`` chunks with text have come."""
    said: list[str] = []
    finished, error = False, ""
    try:
        stream = await _router(order["addresses"], order["continues"]).acompletion(
            model=MODELS[0], messages=[{"role": "user", "content": order["prompt"]}],
            max_tokens=order["max_tokens"], temperature=0, stream=True,
        )  # fmt: skip
        async for chunk in stream:
            for choice in chunk.choices:
                finished = finished or choice.finish_reason is not None
                if choice.delta.content:
                    said.append(choice.delta.content)
                    if order["kill"] and len(said) == order["after"]:
                        os.kill(order["kill"], signal.SIGKILL)
    except Exception as raised:  # noqa: BLE001 - whatever a user's program would see
        error = type(raised).__name__
    return {"text": "".join(said), "finished": finished, "error": error, "tokens": len(said)}


async def main() -> None:
    """Take orders until stdin ends."""
    # Before it is imported.
    os.environ.update(ENVIRON)
    import litellm

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    await take_orders(answer, {"version": importlib.metadata.version("litellm")})


if __name__ == "__main__":
    asyncio.run(main())
