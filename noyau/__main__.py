"""The ``noyau`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command. Without its libraries, say which extra brings them."""
    try:
        from noyau.app import VERBS, make_app
        from noyau.terminal import written
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("typer", "rich"):
            raise
        sys.stderr.write(f'The noyau command needs {error.name}: pip install "noyau[cli]"\n')
        sys.exit(78)
    # Only the verb that is wanted is imported: `up` starts half a second sooner by that.
    verb = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    with written():
        make_app([verb] if verb in VERBS else VERBS)()


if __name__ == "__main__":
    main()
