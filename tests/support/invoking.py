"""The command, in the process of the test: a new one takes a second to import what it needs."""

from __future__ import annotations

import os
import subprocess
import threading

from typer.testing import CliRunner

from noyau.app import make_app

_APP = make_app()


# It writes to the process's own stdout, of which there is one.
_ONE_AT_A_TIME = threading.Lock()


def invoked(*arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """What it printed, and its exit code. Not from inside a running event loop."""
    mine = {name: None for name in os.environ if name.startswith("NOYAU_")}
    with _ONE_AT_A_TIME:
        runner = CliRunner(env={**mine, "COLUMNS": "200", "NO_COLOR": "1", **variables})
        done = runner.invoke(_APP, arguments, input=stdin)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)
