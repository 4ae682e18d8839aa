"""What ``python supervisor.py`` takes on its command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from supervision.guarded import Lineage


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line. Exits with 2 and a usage message when it is wrong."""
    parser = argparse.ArgumentParser(
        prog="supervisor.py",
        description="Run noyau: start its actors, watch them, restart what crashes.",
        epilog="`noyau up` does the same and shows it on the terminal.",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings (TOML), laid over the defaults"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="assignments",
        help="one setting, e.g. --set actors.cpu_engine.settings.threads=2; wins over all others",
    )  # fmt: skip
    parser.add_argument(
        "--no-guard", action="store_true",
        help="run without the parent that restarts a crashed supervisor (systemd can do that)",
    )  # fmt: skip
    # What a guard tells the supervisor that it starts.
    parser.add_argument("--guard", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--guard-pipe", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--restarts", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--guard-restarts", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def lineage(given: Sequence[str], options: argparse.Namespace) -> Lineage:
    """What a guard told with the parsed command line ``given``."""
    told = ("--guard=", "--guard-pipe=", "--restarts=", "--guard-restarts=")
    return Lineage(
        tuple(argument for argument in given if not argument.startswith(told)),
        options.guard, options.guard_pipe, options.restarts, options.guard_restarts,
    )  # fmt: skip
