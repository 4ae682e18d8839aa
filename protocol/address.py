"""Which noyau a client means: one on this machine, by its run folder, or one on another."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from protocol.curve import ClientCurve
from protocol.endpoints import (
    HOST,
    KEY_VARIABLE,
    REMOTE,
    SERVER_KEY_VARIABLE,
    SERVER_VARIABLE,
    SUPERVISOR,
    default_run_folder,
    endpoint,
)
from protocol.errors import InvalidRequest, NotRunning, UnusableKey
from protocol.keyfiles import DEFAULT_NAME, client_key_path, read_key_pair
from protocol.keys import parse_key

_SERVER = re.compile(rf"{REMOTE}({HOST}):[0-9]{{1,5}}")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a supervisor answers, and what it takes to be let in."""

    endpoint: str
    curve: ClientCurve | None = None
    """None for one on this machine."""
    run_folder: Path | None = None
    """None for one on another machine."""

    def not_running(self, reason: str) -> NotRunning:
        """The error for when nobody answers there."""
        if self.curve is None:
            return NotRunning(
                f"noyau is not running in {self.run_folder}: start it with `noyau up`",
                run_folder=str(self.run_folder),
            )
        return NotRunning(
            f"no noyau answers at {self.endpoint} ({reason}). It may not be running; or it is not "
            f"the one whose key is {self.curve.server}; or this key is not let in, and then it "
            f"answers nothing: on its machine, `noyau keys authorize {self.curve.keys.public}`",
            endpoint=self.endpoint,
        )


def find_address(
    where: Path | str | None = None,
    *,
    server_key: str | None = None,
    key: Path | str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Address:
    """The noyau that is meant.

    ``where``: a run folder, or ``tcp://HOST:PORT`` (else ``$NOYAU_SERVER``, else
    `default_run_folder`). For the latter, ``server_key``: its public key (else
    ``$NOYAU_SERVER_KEY``); ``key``: name or file of the client's own key (else ``$NOYAU_KEY``, else
    "default"). Raises `InvalidRequest` and `UnusableKey`.
    """
    environ = os.environ if environ is None else environ
    named = None if where else environ.get(SERVER_VARIABLE)
    if named or (isinstance(where, str) and "://" in where):
        return _remote(str(named or where), server_key, key, environ)
    folder = Path(where or default_run_folder(environ))
    return Address(endpoint(folder, SUPERVISOR), run_folder=folder)


def _remote(
    where: str, server_key: str | None, key: Path | str | None, environ: Mapping[str, str]
) -> Address:
    if not _SERVER.fullmatch(where):
        raise InvalidRequest(
            f"{where[:200]!r} is no address of a noyau: write {REMOTE}HOST:PORT, such as "
            f"{REMOTE}192.168.1.20:5570"
        )
    known = server_key or environ.get(SERVER_KEY_VARIABLE)
    if not known:
        raise UnusableKey(
            f"the public key of {where} is needed, so that nobody can pass for it: set "
            f"{SERVER_KEY_VARIABLE} to what `noyau keys list` shows on its machine"
        )
    path = client_key_path(str(key or environ.get(KEY_VARIABLE) or DEFAULT_NAME), environ)
    return Address(where, ClientCurve(parse_key(known), read_key_pair(path)))
