"""Where processes meet: local sockets in the run folder, and ports for other machines."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

MAX_SOCKET_PATH_BYTES = 107
"""``sun_path`` has 108 bytes with its final zero (unix(7)); zmq refuses longer ones."""

SUPERVISOR = "supervisor"
"""Its well-known endpoint is all that a client has to know."""
SERVER_VARIABLE = "NOYAU_SERVER"
"""Where a client looks for a noyau on another machine: ``tcp://HOST:PORT``."""
SERVER_KEY_VARIABLE = "NOYAU_SERVER_KEY"
"""The public key of that noyau."""
KEY_VARIABLE = "NOYAU_KEY"
"""The name, or the file, of the client's own key."""
CLIENT_VARIABLES = (SERVER_VARIABLE, SERVER_KEY_VARIABLE, KEY_VARIABLE)
REMOTE = "tcp://"
HOST = r"[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.%a-z]+\]"
"""A name or an address, as a regular expression; IPv6 in brackets."""
SAME_HOST = "tcp://*:"
"""In a directory that is read from another machine: at the host that this was asked of."""


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


def from_afar(endpoint: str) -> str:
    """An endpoint as a client on another machine is told it: only he knows what he calls us."""
    return SAME_HOST + endpoint.rpartition(":")[2] if endpoint else ""


def resolved(endpoint: str, asked: str) -> str:
    """The endpoint that a directory means which was asked of ``asked``."""
    if endpoint.startswith(SAME_HOST) and asked.startswith(REMOTE):
        return f"{asked.rpartition(':')[0]}:{endpoint.removeprefix(SAME_HOST)}"
    return endpoint
