"""A server of OpenAI's API that answers as a test says, byte by byte, and as wrongly."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

HOLD = b""
"""A step: nothing more comes until the other side has gone."""

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
DONE = b"data: [DONE]\n\n"

MODELS = {"object": "list", "data": [{"id": "tiny", "object": "model", "owned_by": "somebody"}]}


def answer(status: int, body: Any = None, *headers: str) -> bytes:
    """A whole answer; ``body`` as JSON, or as it is."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} As told", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + data


def event(chunk: Any) -> bytes:
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()


def text(words: str, finish: str | None = None, **more: Any) -> bytes:
    """A chunk with some text."""
    return event({"choices": [{"index": 0, "delta": {"content": words}, "finish_reason": finish}],
                  **more})  # fmt: skip


@dataclass
class Asked:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Script:
    """By path, what is sent back to each request in turn, the last one again and again."""

    answers: dict[str, list[Sequence[bytes]]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)
    """Who was being answered has gone."""
    url: str = ""

    def chats(self, *steps: bytes) -> None:
        """To the next question that has no answer yet."""
        self.answers.setdefault("/v1/chat/completions", []).append(steps)

    def question(self, number: int = -1) -> Any:
        """The body of a question that came."""
        return [one.body for one in self.asked if one.path == "/v1/chat/completions"][number]

    def next(self, path: str) -> Sequence[bytes]:
        waiting = self.answers.get(path) or [[answer(404, {"error": {"message": "nothing here"}})]]
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]


@contextmanager
def scripted(models: Any = MODELS) -> Iterator[Script]:
    """Listens on loopback as long as the context lasts."""
    script = Script({"/v1/models": [[answer(200, models)]]})

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            line = self.rfile.readline().decode()
            headers = {}
            while (header := self.rfile.readline().decode().strip()) != "":
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            body = self.rfile.read(int(headers.get("content-length", 0)))
            path = line.split()[1]
            script.asked.append(Asked(path, headers, json.loads(body) if body else None))
            for step in script.next(path):
                if step:
                    self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self.wfile.write(step)
                else:
                    self.rfile.read(1)
                    script.gone.set()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Whoever goes in the middle is what some tests are about."""

    with Server(("127.0.0.1", 0), Handler) as server:
        script.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield script
        server.shutdown()
