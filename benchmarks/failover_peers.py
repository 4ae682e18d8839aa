"""The same kill without noyau: programs that read a plain llama.cpp server, and litellm's Router.

``httpx`` and ``urllib`` are programs as people write them: they read the stream to its end. Of
litellm there are two, as it comes and told to go on with its fallback. All servers are
`benchmarks.bare_server` with the default model; what they lose is started again for the next turn.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.driven import Driven
from benchmarks.harness import Figure, Options, alternate, progress, show_table
from benchmarks.plain_servers import TOKENS, Ended, Servers, with_httpx, with_urllib
from benchmarks.steady import WORDS
from benchmarks.system import PEERS, ROOT

RUNS, QUICK_RUNS = 20, 2
LITELLM = {"litellm": False, "litellm_continuing": True}


@dataclass(frozen=True, slots=True)
class Turn:
    """An answer without the kill, and with it."""

    whole: Ended
    cut: Ended

    @property
    def complete(self) -> bool:
        """Whether it came to its end in spite of the kill."""
        return self.cut.finished and not self.cut.error

    @property
    def silently_cut(self) -> bool:
        """Whether it looks like an answer, and is a part of one."""
        return not self.cut.finished and not self.cut.error

    @property
    def identical(self) -> bool:
        """Whether it is what it would have been."""
        return self.complete and self.cut.text == self.whole.text


Client = Callable[[Servers, str, int, int], Awaitable[Ended]]


def _with_litellm(driven: Driven, continues: bool) -> Client:
    async def ask(servers: Servers, prompt: str, kill: int, after: int) -> Ended:
        order = {
            "addresses": servers.addresses, "prompt": prompt, "max_tokens": TOKENS,
            "kill": kill, "after": after, "continues": continues,
        }  # fmt: skip
        return Ended(**await driven.order(order))

    return ask


async def measure(model: Path, options: Options) -> dict[str, list[Turn]]:
    """The turns of each client."""
    chance = random.Random(4)
    options = options.part(1.0, most_runs=QUICK_RUNS if options.quick else RUNS)
    clients: dict[str, Client] = {"httpx": with_httpx, "urllib": with_urllib}
    async with contextlib.AsyncExitStack() as stack:
        if any(PEERS.glob("lib/python*/site-packages/litellm/__init__.py")):
            command = [str(PEERS / "bin" / "python"), "-m", "benchmarks.peer_litellm"]
            driven = await stack.enter_async_context(Driven(command, folder=ROOT))
            clients |= {name: _with_litellm(driven, value) for name, value in LITELLM.items()}
        servers = await stack.enter_async_context(Servers(model))

        def turn_of(name: str, client: Client) -> Callable[[], Awaitable[Turn]]:
            async def turn() -> Turn:
                while True:
                    one, other = chance.sample(WORDS, 2)
                    prompt = f"Write a short story about a {one} and a {other}."
                    whole = await client(servers, prompt, 0, 0)
                    if whole.tokens >= TOKENS // 2:
                        break
                after = chance.randint(1, whole.tokens - 8)
                cut = await client(servers, prompt, servers.pid, after)
                await servers.again()
                progress(
                    f"{name}: killed at {after}, {cut.error or 'no error'}, end {cut.finished}"
                )
                return Turn(whole, cut)

            return turn

        turns = {name: turn_of(name, client) for name, client in clients.items()}
        return await alternate(turns, options, warm_up=False)


def show(turns: Mapping[str, Sequence[Turn]]) -> None:
    """Print what became of the answers."""
    rows = [
        [name, str(len(all_)), *(str(sum(getattr(one, what) for one in all_)) for what in (
            "complete", "identical", "silently_cut")),
         ", ".join(sorted({one.cut.error for one in all_ if one.cut.error})) or "none"]
        for name, all_ in turns.items()
    ]  # fmt: skip
    rows += [
        [name, *["-"] * 4, "not installed: make bench installs it"]
        for name in LITELLM
        if name not in turns
    ]
    show_table(
        ["client of plain servers", "kills", "complete", "same text", "cut without error",
         "errors"], rows,
    )  # fmt: skip


def figures(turns: Mapping[str, Sequence[Turn]]) -> dict[str, Figure]:
    """In percent of their answers."""
    made = {}
    for name in ("httpx", "urllib", *LITELLM):
        all_ = turns.get(name, ())
        for key, what in (("complete", "complete"), ("identical", "identical"),
                          ("cut_without_error", "silently_cut")):  # fmt: skip
            share = 100 * sum(getattr(t, what) for t in all_) / len(all_) if all_ else None
            made[f"{name}_{key}_percent"] = Figure(share, "%")
    return made
