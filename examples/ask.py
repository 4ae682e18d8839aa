"""A client of noyau: asks, streams, and sees what a failure would look like.

Start noyau first (`noyau up`), then run this file. It imports `noyau` and nothing else.
"""

from __future__ import annotations

import sys

from noyau import NoyauError, Query, SyncClient


def main() -> int:
    """Ask twice: once for the whole answer, once piece by piece."""
    try:
        with SyncClient.connect() as client:
            print(f"noyau is {client.status().health.value}")

            answer = client.ask(Query(text="Say hello in one short sentence.", max_tokens=32))
            print(answer)

            with client.stream(Query(text="Why is the sky blue?", max_tokens=64)) as stream:
                for piece in stream:
                    print(piece.text, end="", flush=True)
            print()
            if stream.end is not None:
                used = stream.end.engines[-1]
                print(f"{used.tokens_per_s:.0f} tokens/s on {used.engine}, "
                      f"{len(stream.end.seams)} seams")  # fmt: skip
    except NoyauError as error:
        # Every error has a stable code, and says whether trying again can help.
        print(f"{error.code}: {error} (retry can help: {error.retryable})", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
