"""Where processes meet: the run folder and the local sockets in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

MAX_SOCKET_PATH_BYTES = 107
"""``sun_path`` has 108 bytes with its final zero (unix(7)); zmq refuses longer ones."""


def xdg_run_folder(environ: Mapping[str, str] | None = None) -> Path:
    """``$XDG_RUNTIME_DIR/noyau``, or ``/tmp/noyau-UID`` where no runtime folder is announced.

    Short on purpose: the path of a local socket is limited to `MAX_SOCKET_PATH_BYTES`.
    """
    environ = os.environ if environ is None else environ
    base = environ.get("XDG_RUNTIME_DIR", "")
    # The XDG base directory specification: an empty or relative one counts as unset.
    return Path(base) / "noyau" if base.startswith("/") else Path(f"/tmp/noyau-{os.getuid()}")


def default_run_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where a client looks: ``$NOYAU_RUN__FOLDER``, else `xdg_run_folder`."""
    environ = os.environ if environ is None else environ
    named = environ.get("NOYAU_RUN__FOLDER")
    return Path(named).absolute() if named else xdg_run_folder(environ)


def endpoint(folder: Path, name: str, epoch: str = "") -> str:
    """The zmq endpoint of a process: ``RUN/NAME.EPOCH``, or ``RUN/NAME`` for a well-known one."""
    return f"ipc://{folder / (f'{name}.{epoch}' if epoch else name)}"
