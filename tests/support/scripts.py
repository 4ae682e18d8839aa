"""Python code run in a process of its own, for what must not be done to the test run itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BOUND_S = 60


def start_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start ``python -c code arguments…`` where our packages can be imported."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_python(code: str, *arguments: object) -> str:
    """Run it to its end, which must be a good one; returns what it printed."""
    process = start_python(code, *arguments)
    try:
        out, err = process.communicate(timeout=BOUND_S)
    finally:
        process.kill()
    assert process.returncode == 0, err
    return out
