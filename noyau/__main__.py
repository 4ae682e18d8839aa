"""The ``noyau`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command. Without its libraries, say which extra brings them."""
    try:
        from noyau.app import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("typer", "rich"):
            raise
        sys.stderr.write(f'The noyau command needs {error.name}: pip install "noyau[cli]"\n')
        sys.exit(78)
    app()


if __name__ == "__main__":
    main()
