"""The trust code as a command for the public conformance suite of TUF clients.

    python -m actors.storage.trust.conformance --metadata-dir D init ROOT
    python -m actors.storage.trust.conformance --metadata-dir D --metadata-url U refresh
    python -m actors.storage.trust.conformance --metadata-dir D --metadata-url U
        --target-name T --target-base-url B --target-dir F download

The options are the suite's; docs/threats.md says how to run it. What is measured is `Workflow`, the
same that `TrustedRepository` is made of; only where the first root comes from, which targets are
wanted and that there may be several is different.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from actors.storage.publishing import disk_errors, publish_bytes
from actors.storage.sources.web import Web
from actors.storage.trust.download import from_anywhere
from actors.storage.trust.workflow import Workflow
from protocol.errors import NoyauError

FIRST_ROOT = "first_root"
"""In the metadata folder, where the suite looks at files called ``.json`` alone."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 where everything that was asked for holds, else 1."""
    options = _parser().parse_args(arguments)
    try:
        options.does(options)
    except NoyauError as error:
        print(f"{error.code}: {error}", file=sys.stderr)  # noqa: T201 - a command speaks
        return 1
    return 0


def _init(options: argparse.Namespace) -> None:
    folder: Path = options.metadata_dir
    with disk_errors(folder):
        root = options.root.read_bytes()
        publish_bytes(root, folder / "root.json")
        publish_bytes(root, folder / FIRST_ROOT)


def _refresh(options: argparse.Namespace) -> None:
    with _workflow(options).session():
        pass


def _download(options: argparse.Namespace) -> None:
    with _workflow(options).session() as session:
        for name in options.target_name:
            session.fetch(name, options.target_dir)


def _workflow(options: argparse.Namespace) -> Workflow:
    folder: Path = options.metadata_dir
    with disk_errors(folder):
        first = (folder / FIRST_ROOT).read_bytes()
    return Workflow(
        folder, options.metadata_url, options.target_base_url or options.metadata_url, first,
        from_anywhere(Web()),
    )  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url")
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-base-url")
    parser.add_argument("--target-dir", type=Path)
    verbs = parser.add_subparsers(required=True)
    init = verbs.add_parser("init")
    init.add_argument("root", type=Path)
    init.set_defaults(does=_init)
    verbs.add_parser("refresh").set_defaults(does=_refresh)
    verbs.add_parser("download").set_defaults(does=_download)
    return parser


if __name__ == "__main__":
    sys.exit(main())
