"""Places that assets come from, in every condition such a place can be in: for the contract suite
of asset sources. No network beyond this machine."""

from __future__ import annotations

import os
import select
import socket
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol

import psutil
import pytest

from actors.storage.sources import (
    FileSource,
    FileSpec,
    HttpSource,
    HttpSpec,
    PypiSource,
    PypiSpec,
    Source,
    SourceSpec,
)
from actors.storage.sources.web import Web
from protocol.clock import ManualClock
from tests.support import faults
from tests.support.faulty_server import FaultyServer

ASSET = bytes(range(256)) * 5000
"""More than one piece of it."""
STALL_S = 60.0


class Place(Protocol):
    """Somewhere a source can fetch `ASSET` from."""

    hangs: ClassVar[bool]
    """Whether it can take the call and never answer, and the source can do something about it."""
    needs_a_tool: ClassVar[bool]
    wrong: ClassVar[tuple[str, ...]]
    """The names of methods that make a spec of what cannot be the asset."""
    clock: ManualClock
    """What the source's time-outs are measured with."""

    def source(self) -> Source[Any]: ...
    def good(self) -> SourceSpec: ...
    def absent(self) -> SourceSpec: ...
    def hanging(self) -> SourceSpec: ...
    def reached(self) -> bool:
        """Whether the hanging place was called."""
        ...

    def source_without_its_tool(self) -> Source[Any]: ...


class Disk:
    """A folder. A share that hangs cannot be had here, and nothing could be done about it."""

    hangs: ClassVar = False
    needs_a_tool: ClassVar = False
    wrong: ClassVar[tuple[str, ...]] = ("longer", "shorter")

    def __init__(self, folder: Path, env: pytest.MonkeyPatch) -> None:
        self.clock = ManualClock()
        self._file = folder / "tiny.bin"

    def source(self) -> Source[Any]:
        return FileSource()

    def good(self) -> SourceSpec:
        return self._with(ASSET)

    def absent(self) -> SourceSpec:
        return FileSpec(path=str(self._file.with_name("absent")))

    def longer(self) -> SourceSpec:
        return self._with(ASSET + b"x")

    def shorter(self) -> SourceSpec:
        return self._with(ASSET[:-1])

    def hanging(self) -> SourceSpec:
        raise NotImplementedError

    def reached(self) -> bool:
        raise NotImplementedError

    def source_without_its_tool(self) -> Source[Any]:
        raise NotImplementedError

    def _with(self, content: bytes) -> SourceSpec:
        self._file.write_bytes(content)
        return FileSpec(path=str(self._file))


class WebServer:
    """A web server on this machine."""

    hangs: ClassVar = True
    needs_a_tool: ClassVar = True
    wrong: ClassVar[tuple[str, ...]] = ("longer", "shorter", "encoded")

    def __init__(self, folder: Path, env: pytest.MonkeyPatch, server: FaultyServer) -> None:
        self.clock = ManualClock()
        self._folder, self._env, self._server = folder, env, server

    def source(self) -> Source[Any]:
        return HttpSource(lambda: Web(stall_timeout_s=STALL_S, clock=self.clock))

    def source_without_its_tool(self) -> Source[Any]:
        self._env.delitem(sys.modules, "actors.storage.sources.web")
        self._env.setitem(sys.modules, "httpx", None)
        return HttpSource()

    def good(self) -> SourceSpec:
        return self._with(ASSET)

    def absent(self) -> SourceSpec:
        return HttpSpec(url=self._server.url("absent.bin"))

    def longer(self) -> SourceSpec:
        return self._with(ASSET + b"x")

    def shorter(self) -> SourceSpec:
        return self._with(ASSET[:-1])

    def encoded(self) -> SourceSpec:
        self._server.inject("*", faults.gzipped())
        return self._with(ASSET)

    def hanging(self) -> SourceSpec:
        self._server.inject("*", faults.silence())
        return self._with(ASSET)

    def reached(self) -> bool:
        return self._server.requests() > 0

    def _with(self, content: bytes) -> SourceSpec:
        (self._folder / "tiny.bin").write_bytes(content)
        return HttpSpec(url=self._server.url("tiny.bin"))


class WheelFolder:
    """pip with a folder of hand-made wheels in place of an index."""

    hangs: ClassVar = True
    needs_a_tool: ClassVar = True
    wrong: ClassVar[tuple[str, ...]] = (
        "nameless",
        "longer",
        "shorter",
        "damaged",
        "bomb",
        "encrypted",
    )

    def __init__(self, folder: Path, env: pytest.MonkeyPatch, listener: socket.socket) -> None:
        self.clock = ManualClock()
        self._folder, self._env, self._listener = folder, env, listener
        env.setenv("PIP_NO_INDEX", "1")
        env.setenv("PIP_FIND_LINKS", str(folder))
        env.setenv("PIP_CONFIG_FILE", os.devnull)
        env.setenv("NO_PROXY", "*")

    def source(self) -> Source[Any]:
        return PypiSource(stall_timeout_s=STALL_S, clock=self.clock)

    def source_without_its_tool(self) -> Source[Any]:
        # -S leaves out site-packages, and with them pip.
        return PypiSource(python=(psutil.Process().exe(), "-S"))

    def good(self) -> SourceSpec:
        return self._wheel(ASSET)

    def absent(self) -> SourceSpec:
        return self._spec(1)

    def nameless(self) -> SourceSpec:
        return self._wheel(ASSET).model_copy(update={"member": "tiny/other.bin"})

    def longer(self) -> SourceSpec:
        return self._wheel(ASSET + b"x")

    def shorter(self) -> SourceSpec:
        return self._wheel(ASSET[:-1])

    def bomb(self) -> SourceSpec:
        """A member that says it has the asset's size, and unpacks to fifty times as much."""
        spec = self._wheel(bytes(len(ASSET) * 50))
        said = (len(ASSET) * 50).to_bytes(4, "little")
        self._patch(lambda raw: raw.replace(said, len(ASSET).to_bytes(4, "little")))
        return spec

    def encrypted(self) -> SourceSpec:
        spec = self._wheel(ASSET)

        def set_the_flag(raw: bytes) -> bytes:
            changed = bytearray(raw)
            # The member's first entry in the list of members; its flags are at byte 8.
            changed[raw.index(b"PK\x01\x02") + 8] |= 1
            return bytes(changed)

        self._patch(set_the_flag)
        return spec

    def damaged(self) -> SourceSpec:
        spec = self._wheel(ASSET)
        self._patch(lambda raw: raw[:200] + bytes([raw[200] ^ 0x40]) + raw[201:])
        return spec

    def hanging(self) -> SourceSpec:
        host, port = self._listener.getsockname()
        self._env.setenv("PIP_FIND_LINKS", f"http://{host}:{port}/")
        return self._spec(1)

    def reached(self) -> bool:
        return bool(select.select([self._listener], [], [], 0)[0])

    def _patch(self, change: Callable[[bytes], bytes]) -> None:
        wheel = next(self._folder.glob("*.whl"))
        before = wheel.read_bytes()
        after = change(before)
        assert after != before
        wheel.write_bytes(after)

    def _wheel(self, content: bytes) -> PypiSpec:
        wheel = self._folder / "tiny_model-1.0-py3-none-any.whl"
        about = "tiny_model-1.0.dist-info"
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as made:
            made.writestr("tiny/tiny.bin", content)
            made.writestr(
                f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0"
            )
            made.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any")
            made.writestr(f"{about}/RECORD", "")
        return self._spec(wheel.stat().st_size)

    def _spec(self, size: int) -> PypiSpec:
        return PypiSpec(requirement="tiny-model==1.0", member="tiny/tiny.bin", wheel_size=size)


PLACES: dict[str, type[Disk] | type[WebServer] | type[WheelFolder]] = {
    "file": Disk,
    "http": WebServer,
    "pypi": WheelFolder,
}


@contextmanager
def opened(name: str, folder: Path, env: pytest.MonkeyPatch) -> Iterator[Place]:
    """The place of a kind of source, with what it needs for as long as the context lasts."""
    kind = PLACES[name]
    if kind is WheelFolder:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield WheelFolder(folder, env, listener)
    elif kind is WebServer:
        with FaultyServer(folder) as server:
            yield WebServer(folder, env, server)
    else:
        yield Disk(folder, env)
