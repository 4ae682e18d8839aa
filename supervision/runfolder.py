"""The run folder belongs to one supervisor: the lock that says so, and the sockets in it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from protocol.errors import RunFolderUnusable
from protocol.signs import SUFFIX as SIGNS


class RunFolder:
    """A locked run folder. The kernel lets go of the lock when the process ends, in any way."""

    def __init__(self, folder: Path) -> None:
        """Lock it. Raises `RunFolderUnusable`, with the other's pid, when it is in use."""
        self.folder = folder
        self._fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise RunFolderUnusable(
                f"noyau runs already in {folder} (supervisor pid {holder}): use it, stop it with "
                "`noyau down`, or choose another folder with --set run.folder=/tmp/noyau-2",
                pid=holder,
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        self._remove_stale()

    def _remove_stale(self) -> None:
        # Whoever made them is gone: this lock could not be had otherwise.
        for path in self.folder.iterdir():
            if path.is_socket() or path.suffix == SIGNS:
                path.unlink()

    def forget(self, name: str, epoch: str) -> None:
        """Remove what an incarnation that is gone had here: its socket, its page of signs."""
        for suffix in ("", SIGNS):
            (self.folder / f"{name}.{epoch}{suffix}").unlink(missing_ok=True)

    def close(self) -> None:
        """Leave nothing behind but the folder and its lock file."""
        self._remove_stale()
        os.close(self._fd)
