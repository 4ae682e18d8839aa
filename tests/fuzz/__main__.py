"""Fuzzes the codec, the batches, a server and a caller, guided by what of the code was reached.

    python -m tests.fuzz [--executions N] [TARGET …]

It needs atheris (``make fuzz`` brings it); each target has a process of its own. It begins with the
test vectors and with what ``tests/fuzz/corpus`` holds. Bytes that break something are written to
``crash-…`` in the current folder: put them into the corpus, and pytest runs them from then on. Ends
with 1 when something broke.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import structlog

from tests.fuzz.targets import TARGETS, seeds

CORPUS = Path(__file__).parent / "corpus"
SHARES = {"codec": 0.4, "batch": 0.2, "blobs": 0.1, "server": 0.15, "caller": 0.15}
"""Of all executions: a server needs a hundred times as long for one as the codec does."""
LONGEST_S = 5
"""One input that takes as long hangs."""
MEMORY_MIB = 1024
"""More is growth."""


def fuzz(target: str, executions: int, folder: Path) -> None:
    """In this process, which ends by it."""
    import atheris  # only those who fuzz have it

    # Each refusal would be a line, and take longer than all the rest.
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)
    options = [
        f"-runs={executions}", f"-timeout={LONGEST_S}", f"-rss_limit_mb={MEMORY_MIB}",
        "-max_len=4096", "-len_control=0", "-print_final_stats=1", "-verbosity=0",
    ]  # fmt: skip
    atheris.instrument_all()
    atheris.Setup([sys.argv[0], *options, str(folder), str(CORPUS)], TARGETS[target]())
    atheris.Fuzz()


def main(words: list[str]) -> int:
    """Each target in a process of its own; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], help="default: all of them")
    parser.add_argument("--executions", type=int, default=1_000_000, help="default: a million")
    parser.add_argument("--here", metavar="FOLDER", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.here is not None:
        fuzz(given.targets[0], given.executions, given.here)
        return 0
    chosen = given.targets or list(TARGETS)
    whole = sum(SHARES[name] for name in chosen)
    broken = []
    with tempfile.TemporaryDirectory(prefix="noyau-fuzz-") as made:
        for number, seed in enumerate(seeds()):
            (Path(made) / f"seed-{number}").write_bytes(seed)
        for name in chosen:
            executions = max(1, round(given.executions * SHARES[name] / whole))
            sys.stderr.write(f"--- {name}: {executions:,} executions\n")
            command = [sys.executable, "-m", "tests.fuzz", name]
            command += ["--executions", str(executions), "--here", made]
            if subprocess.run(command, check=False).returncode:
                broken.append(name)
    for name in broken:
        sys.stderr.write(f"{name}: something broke; see above for the crash-… file\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
