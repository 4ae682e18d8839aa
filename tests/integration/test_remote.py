"""Clients on other machines: known keys get in and do what their role says, and nobody else."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import zmq
import zmq.asyncio

from actors.kernel.handlers import handles
from actors.kernel.serving import Server
from noyau import Client, Query
from protocol.catalogue import is_own
from protocol.clock import MonotonicClock
from protocol.codec import Codec
from protocol.curve import ClientCurve, ServerCurve, new_key_pair
from protocol.envelope import Envelope, Kind, new_id
from protocol.errors import NotAllowed, NotRunning, ToolFailed, error_from_body
from protocol.keyfiles import AuthorizedKeys
from protocol.keys import Authorized, KeyPair
from protocol.lifecycle import ActorState
from protocol.messages import OPERATIONS
from protocol.messages.actor import Hello, Ping, Pong
from protocol.messages.base import Event, Role
from protocol.messages.memory import ListMemories
from protocol.messages.supervisor import Drain, Restart, Status, WatchEvents
from protocol.transport import ZmqTransport
from tests.integration.test_command import noyau
from tests.support.events import watching
from tests.support.remote import (
    RemoteSystem,
    Wires,
    around,
    free_ports,
    listening,
    running_remotely,
)
from tests.support.system import connect, pid_of, running, shared, status_when

COUNTING = "actors.cpu_engine.class=tests.support.actors:CountingEngine"
RUNS = ("supervisor", "storage", "memory", "tool_user", "orchestrator", "cpu_engine")
SILENCE_S = 0.5
"""Who is let in is answered within some milliseconds."""


@pytest.fixture(scope="module")
def noyau_afar() -> Iterator[RemoteSystem]:
    port = free_ports()
    with shared(COUNTING, listening(port)) as system:
        yield around(system, port)


def counted(n: int) -> str:
    return "".join(f"{number} " for number in range(n))


async def refusals(system: RemoteSystem) -> int:
    """How many the supervisor has refused so far."""
    async with system.system.client() as local:
        return (await local.status()).strangers


# --- who is let in --------------------------------------------------------------------------


async def test_a_known_key_uses_noyau_as_if_it_were_here(noyau_afar: RemoteSystem) -> None:
    async with noyau_afar.client(noyau_afar.authorize("laptop", Role.ASK)) as client:
        answer = await client.ask(Query(text="count", max_tokens=300))
        assert answer.text == counted(300)
        assert (await client.status()).boot
        assert (await client.ask(ListMemories())).total == 0
        entries = client.caller.directory.entries.values()
        assert all(e.endpoint.startswith("tcp://127.0.0.1:") for e in entries if e.epoch)


async def test_an_answer_goes_on_when_what_makes_it_is_killed(noyau_afar: RemoteSystem) -> None:
    keys = noyau_afar.authorize("laptop", Role.ASK)
    async with noyau_afar.client(keys) as client, noyau_afar.system.client() as local:
        for victim in ("orchestrator", "cpu_engine"):
            stream = client.stream(Query(text="count", max_tokens=500))
            text = ""
            async for piece in stream:
                text += piece.text
                if text.endswith(" 100 "):
                    os.kill(pid_of(await local.status(), victim), signal.SIGKILL)
            assert text == counted(500)
            assert stream.end is not None
            assert [seam.lost.split(".")[0] for seam in stream.end.seams] == [victim]


async def test_the_command_reaches_a_noyau_on_another_machine(
    noyau_afar: RemoteSystem, tmp_path: Path
) -> None:
    command = functools.partial(noyau, XDG_CONFIG_HOME=str(tmp_path))
    made = await asyncio.to_thread(command, "keys", "new", "desk")
    assert made.returncode == 0, made.stderr
    key, folder = made.stdout.strip(), noyau_afar.system.run_folder
    let_in = await asyncio.to_thread(
        noyau, "keys", "authorize", key, "--name", "desk", "--role", "observe", run_folder=folder
    )
    assert let_in.returncode == 0, let_in.stderr
    listed = await asyncio.to_thread(noyau, "keys", "list", run_folder=folder)
    assert f"server key  {noyau_afar.server_key}" in listed.stdout
    assert [line.split()[:2] for line in listed.stdout.splitlines() if key in line] == [
        ["desk", "observe"]
    ]
    there = (
        "--server", noyau_afar.endpoint, "--server-key", noyau_afar.server_key, "--key", "desk",
    )  # fmt: skip
    status = await asyncio.to_thread(command, *there, "status")
    assert status.returncode == 0, status.stderr
    assert "orchestrator" in status.stdout
    asked = await asyncio.to_thread(command, *there, "ask", "Why?")
    assert asked.returncode == 1
    assert "orchestrator.query needs the role ask, this connection has observe" in asked.stderr
    down = await asyncio.to_thread(command, *there, "down")
    assert down.returncode == 1
    assert "is on another" in down.stderr

    revoked = await asyncio.to_thread(noyau, "keys", "revoke", "desk", run_folder=folder)
    assert revoked.returncode == 0, revoked.stderr
    assert noyau_afar.keys.role(key) is None


async def test_a_client_finds_the_next_supervisor_at_the_same_address() -> None:
    async with (
        running_remotely(COUNTING) as there,
        there.client(there.authorize("laptop", Role.OPERATE)) as client,
    ):
        pid = (await client.status()).supervisor.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        found = await status_when(
            client,
            lambda s: s.supervisor.pid != pid and all(a.state is ActorState.READY
            for a in s.actors if a.name != "gpu_engine"),
        )  # fmt: skip
        assert found.supervisor.restarts == 1
        assert (await client.ask(Query(text="count", max_tokens=5))).text == counted(5)


# --- a network that breaks ------------------------------------------------------------------


async def test_an_answer_goes_on_over_a_new_connection_without_being_made_anew(
    noyau_afar: RemoteSystem,
) -> None:
    keys = noyau_afar.authorize("laptop", Role.ASK)
    async with (
        Wires(noyau_afar.port) as wires,
        noyau_afar.client(keys, at=wires.endpoint) as client,
    ):
        stream = client.stream(Query(text="count", max_tokens=800))
        text = ""
        async for piece in stream:
            text += piece.text
            if text.endswith((" 100 ", " 400 ")):
                assert wires.cut() >= 2
        assert text == counted(800)
        assert (len(stream.regained), len(stream.resumed)) == (2, 0)
        assert stream.end is not None
        # Nobody else went on with it: what had been made was kept, and the rest of it given.
        assert stream.end.seams == []


async def test_an_answer_whose_maker_dies_while_the_network_is_broken_goes_on_too(
    noyau_afar: RemoteSystem,
) -> None:
    keys = noyau_afar.authorize("laptop", Role.ASK)
    async with (
        Wires(noyau_afar.port) as wires,
        noyau_afar.client(keys, at=wires.endpoint) as client,
        noyau_afar.system.client() as local,
    ):
        stream = client.stream(Query(text="count", max_tokens=800))
        text = ""
        async for piece in stream:
            text += piece.text
            if text.endswith(" 100 "):
                pid = pid_of(await local.status(), "orchestrator")
                wires.cut()
                os.kill(pid, signal.SIGKILL)
        assert text == counted(800)
        assert stream.end is not None
        assert len(stream.end.seams) == 1


# --- strangers ------------------------------------------------------------------------------


def refused_by(found: Status, name: str) -> int:
    """How many a process has refused so far."""
    if name == "supervisor":
        return found.strangers
    return next(actor.counters.rejected for actor in found.actors if actor.name == name)


async def silence(system: RemoteSystem, name: str, endpoint: str, **options: bytes) -> None:
    """Connect with zmq alone, send what everybody would be answered, and hear nothing of it: not
    until that process has counted it as refused, and not after that."""
    context = zmq.asyncio.Context()
    async with system.system.client() as local:
        before = refused_by(await local.status(), name)
        with context.socket(zmq.DEALER) as socket:
            socket.set(zmq.LINGER, 0)
            socket.set(zmq.RECONNECT_IVL, -1)
            for option, value in options.items():
                socket.set(getattr(zmq, option), value)
            socket.connect(endpoint)
            await socket.send(
                Codec().encode(Envelope(new_id(), Kind.REQUEST, "actor.ping", body={})),
                zmq.NOBLOCK,
            )
            await status_when(local, lambda found: refused_by(found, name) > before)
            assert not await socket.poll(int(SILENCE_S * 1000))
    context.term()


def options_of(server_key: str, keys: KeyPair) -> dict[str, bytes]:
    return {
        "CURVE_SERVERKEY": bytes.fromhex(server_key),
        "CURVE_PUBLICKEY": bytes.fromhex(keys.public),
        "CURVE_SECRETKEY": bytes.fromhex(keys.secret),
    }


STRANGERS: dict[str, Callable[[RemoteSystem, KeyPair], dict[str, bytes]]] = {
    "whose key is unknown": lambda it, known: options_of(it.server_key, new_key_pair()),
    "who speaks in clear": lambda it, known: {},
    "who takes it for another server": lambda it, known: options_of(new_key_pair().public, known),
    "who chooses his routing id": lambda it, known: {
        "ROUTING_ID": b"somebody", **options_of(it.server_key, known),
    },
}  # fmt: skip


@pytest.mark.parametrize("who", STRANGERS)
async def test_a_stranger_is_answered_nothing_and_counted(
    noyau_afar: RemoteSystem, who: str
) -> None:
    known = noyau_afar.authorize("laptop", Role.OPERATE)
    before = await refusals(noyau_afar)
    it = STRANGERS[who](noyau_afar, known)
    await silence(noyau_afar, "supervisor", noyau_afar.endpoint, **it)
    assert await refusals(noyau_afar) == before + 1


@pytest.mark.parametrize("name", RUNS)
async def test_no_process_answers_a_stranger(noyau_afar: RemoteSystem, name: str) -> None:
    async with noyau_afar.client(noyau_afar.authorize("laptop", Role.OBSERVE)) as client:
        entries = client.caller.directory.entries
        endpoint = entries[name].endpoint if name in entries else noyau_afar.endpoint
    it = options_of(noyau_afar.server_key, new_key_pair())
    await silence(noyau_afar, name, endpoint, **it)


async def test_a_client_with_an_unknown_key_is_told_what_to_do(noyau_afar: RemoteSystem) -> None:
    keys = new_key_pair()
    with pytest.raises(NotRunning, match=f"noyau keys authorize {keys.public}"):
        await noyau_afar.client(keys, connect_s=SILENCE_S).open()


async def test_nobody_is_let_in_while_the_list_is_broken(noyau_afar: RemoteSystem) -> None:
    keys = noyau_afar.authorize("laptop", Role.OBSERVE)
    good = noyau_afar.keys.path.read_text()
    noyau_afar.keys.path.write_text(good + "\n[keys.")
    try:
        with pytest.raises(NotRunning):
            await noyau_afar.client(keys, connect_s=SILENCE_S).open()
        told = await asyncio.to_thread(
            noyau, "keys", "list", run_folder=noyau_afar.system.run_folder
        )
        assert told.returncode == 78
        assert "is no TOML" in told.stderr
    finally:
        noyau_afar.keys.path.write_text(good)
    async with noyau_afar.client(keys) as client:
        assert (await client.status()).boot


# --- roles ----------------------------------------------------------------------------------


class Wire:
    """One connection with a key, over which the test says what it likes."""

    def __init__(self, system: RemoteSystem, endpoint: str, keys: KeyPair) -> None:
        self.transport = ZmqTransport(client=ClientCurve(system.server_key, keys))
        self.codec = Codec()
        self.answers: asyncio.Queue[Envelope] = asyncio.Queue()
        self._link = self.transport.connect(
            endpoint, lambda frame: self.answers.put_nowait(self.codec.decode(frame)), self._lost
        )

    def _lost(self, reason: str) -> None:
        raise AssertionError(reason)

    async def say(self, operation: str, kind: Kind, body: object) -> Envelope:
        """Send it; returns the first answer."""
        id_ = new_id()
        self._link.send(self.codec.encode(Envelope(id_, kind, operation, body=body)))
        answer = await asyncio.wait_for(self.answers.get(), 10)
        assert answer.id == id_
        return answer


@pytest.mark.parametrize("role", [Role.OBSERVE, Role.ASK, Role.OPERATE])
async def test_every_operation_above_its_role_is_refused_to_a_key(
    noyau_afar: RemoteSystem, role: Role
) -> None:
    keys = noyau_afar.authorize("laptop", role)
    async with noyau_afar.client(keys) as client:
        endpoints = {n: e.endpoint for n, e in client.caller.directory.entries.items()}
    endpoints |= {"supervisor": noyau_afar.endpoint}
    endpoints |= {"actor": endpoints["memory"], "engine": endpoints["cpu_engine"]}
    wires: dict[str, Wire] = {}
    refused = 0
    counted_before = await refusals(noyau_afar)
    for name, model in OPERATIONS.items():
        if model.role <= role or not is_own(model):
            continue
        endpoint = endpoints[model.receiver()]
        wire = wires.setdefault(endpoint, Wire(noyau_afar, endpoint, keys))
        kind = Kind.EVENT if issubclass(model, Event) else Kind.REQUEST
        answer = await wire.say(name, kind, {})
        error = error_from_body(answer.body)
        assert isinstance(error, NotAllowed), f"{name}: {error}"
        assert model.role.name.lower() in error.message
        refused += 1
    assert refused >= {Role.OBSERVE: 28, Role.ASK: 17, Role.OPERATE: 11}[role]
    for wire in wires.values():
        wire.transport.close()
    to_the_supervisor = [
        one for one in OPERATIONS.values()
        if is_own(one) and one.role > role and one.receiver() == "supervisor"
    ]  # fmt: skip
    assert await refusals(noyau_afar) == counted_before + len(to_the_supervisor)


async def test_what_its_role_allows_a_key_does(noyau_afar: RemoteSystem) -> None:
    async with noyau_afar.client(noyau_afar.authorize("laptop", Role.OPERATE)) as client:
        before = (await client.ask(Restart(names=["tool_user"]))).previous["tool_user"]
        entry = await client.caller.ready("tool_user", client.caller.clock.now() + 20)
        while entry.epoch == before:
            await client.caller.wait_for_news(client.caller.clock.now() + 1)
            entry = await client.caller.ready("tool_user", client.caller.clock.now() + 20)
        assert (await client.ask(Ping(), to="tool_user")).epoch == entry.epoch


async def test_another_role_holds_from_the_next_message_on(noyau_afar: RemoteSystem) -> None:
    keys = noyau_afar.authorize("laptop", Role.OBSERVE)
    async with noyau_afar.client(keys) as client:
        with pytest.raises(NotAllowed):
            await client.ask(ListMemories())
        listed = noyau_afar.keys.read()
        noyau_afar.keys.write(
            one if one.key != keys.public else type(one)(one.name, one.key, Role.ASK)
            for one in listed
        )
        assert (await client.ask(ListMemories())).total == 0


async def test_nobody_becomes_an_actor_from_afar_not_even_with_the_secret(
    noyau_afar: RemoteSystem,
) -> None:
    wire = Wire(noyau_afar, noyau_afar.endpoint, noyau_afar.authorize("laptop", Role.OPERATE))
    hello = Hello(name="storage", epoch="b-1", secret=b"whatever it is")
    answer = await wire.say(Hello.operation, Kind.EVENT, hello)
    assert "actors, which are all on one machine" in str(error_from_body(answer.body))
    wire.transport.close()


# --- revoked keys ---------------------------------------------------------------------------


async def test_a_revoked_key_is_refused_from_its_next_message_on_and_counted(
    noyau_afar: RemoteSystem,
) -> None:
    keys = noyau_afar.authorize("laptop", Role.OPERATE)
    async with noyau_afar.client(keys) as client:
        await client.status()
        before = await refusals(noyau_afar)
        noyau_afar.revoke("laptop")
        with pytest.raises(NotAllowed, match="revoked"):
            await client.status()
        with pytest.raises(NotAllowed, match="revoked"):
            await client.ask(Drain(name="storage"))
        assert await refusals(noyau_afar) >= before + 2
    with pytest.raises(NotRunning):
        await noyau_afar.client(keys, connect_s=SILENCE_S).open()
    async with noyau_afar.system.client() as local:
        assert (await local.caller.ready("storage", local.caller.clock.now())).name == "storage"


async def test_a_revoked_key_hears_no_more_of_what_it_had_asked_for(
    noyau_afar: RemoteSystem,
) -> None:
    keys = noyau_afar.authorize("laptop", Role.ASK)
    async with noyau_afar.client(keys) as client:
        stream = client.stream(Query(text="count", max_tokens=100_000), timeout_s=60)
        events = client.stream(WatchEvents())
        heard: list[str] = []

        async def listen() -> None:
            async for batch in events:
                heard.extend(event.actor for event in batch.events)

        listening_on = asyncio.ensure_future(listen())
        text = (await anext(stream)).text
        noyau_afar.revoke("laptop")
        with pytest.raises(NotAllowed, match="revoked"):
            text += "".join([piece.text async for piece in stream])
        # What was under way may have come; the answer itself has not.
        assert len(text.split()) < 1000
        async with noyau_afar.system.client() as local:
            await status_when(
                local,
                lambda s: all(a.counters.in_flight == 0 for a in s.actors
                              if a.name in ("orchestrator", "cpu_engine")),
            )  # fmt: skip
            async with watching(local) as told:
                heard_before = len(heard)
                await local.ask(Restart(names=["tool_user"]))
                await told.until("actor.ready", "tool_user")
        # It heard no more, but perhaps that its key was revoked.
        listening_on.cancel()
        with pytest.raises((asyncio.CancelledError, NotAllowed)):
            await listening_on
        assert heard[heard_before:] == []


async def test_a_revoked_key_is_not_told_what_went_wrong_either(tmp_path: Path) -> None:
    class Owner:
        def __init__(self) -> None:
            self.began = asyncio.Event()
            self.go_on = asyncio.Event()

        @handles(Ping)
        async def ping(self, message: Ping) -> Pong:
            self.began.set()
            await self.go_on.wait()
            raise ToolFailed("what is nobody else's business")

    keys, own, server_key = AuthorizedKeys(tmp_path), new_key_pair(), new_key_pair()
    keys.write([Authorized("a", own.public, Role.OPERATE)])
    owner, codec = Owner(), Codec()
    server = Server(owner, name="x", epoch="1", secret=b"s", clock=MonotonicClock(), keys=keys)
    transport = ZmqTransport(
        server=ServerCurve(server_key, server), client=ClientCurve(server_key.public, own)
    )
    endpoint = f"tcp://127.0.0.1:{free_ports()}"
    server.attach_remote(transport.listen(endpoint, server.on_frame))
    answers: asyncio.Queue[Envelope] = asyncio.Queue()
    link = transport.connect(
        endpoint, lambda frame: answers.put_nowait(codec.decode(frame)), lambda reason: None
    )
    link.send(codec.encode(Envelope(new_id(), Kind.REQUEST, "actor.ping", body={})))
    await asyncio.wait_for(owner.began.wait(), 10)
    keys.write([])
    owner.go_on.set()
    error = error_from_body((await asyncio.wait_for(answers.get(), 10)).body)
    assert isinstance(error, NotAllowed)
    assert "business" not in error.message
    await server.stop()
    transport.close()


@pytest.mark.parametrize(
    "words",
    [("keys", "new", "[/x]"), ("keys", "revoke", "[/x]"), ("--server", "tcp://[/x]:1", "status")],
    ids=" ".join,
)
def test_what_looks_like_markup_is_told_as_it_is(words: tuple[str, ...], tmp_path: Path) -> None:
    done = noyau(*words, NOYAU_DATA__FOLDER=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path))
    assert done.returncode in (1, 78)
    assert "[/x]" in done.stderr
    assert "Traceback" not in done.stderr


# --- the address ----------------------------------------------------------------------------


async def test_a_port_that_somebody_has_keeps_noyau_from_starting_and_is_told() -> None:
    port = free_ports()
    async with running(COUNTING, listening(port)) as first:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "supervisor", "--no-guard",
             "--set", f"run.folder={first.folder}/other",
             "--set", f"data.folder={first.folder}/other-data", "--set", listening(port)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 78, done.stderr
        assert f"cannot listen on tcp://127.0.0.1:{port}" in done.stderr
        assert "Traceback" not in done.stderr


async def test_an_actor_waits_for_its_port_and_says_so() -> None:
    port = free_ports()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as squatter:
        squatter.bind(f"tcp://127.0.0.1:{port + 1}")
        async with (
            running(COUNTING, listening(port), wait=False) as system,
            await connect(system) as client,
        ):
            found = await status_when(
                client, lambda s: any("cannot listen on" in a.reason for a in s.actors)
            )
            (waiting,) = [a for a in found.actors if "cannot listen on" in a.reason]
            assert waiting.state is ActorState.STARTING
            squatter.close()
            await client.caller.ready(waiting.name, client.caller.clock.now() + 30)


def listens_on(process: psutil.Process) -> set[str]:
    """The addresses of its TCP ports; of one that ended since it was found, none."""
    try:
        found = process.net_connections("tcp")
    except psutil.NoSuchProcess:
        return set()
    return {connection.laddr.ip for connection in found if connection.status == "LISTEN"}


async def test_without_the_setting_nobody_listens_to_other_machines() -> None:
    async with running(COUNTING) as system:
        for process in system.processes():
            assert listens_on(process) <= {"127.0.0.1"}
        async with system.client() as client:
            assert isinstance(client, Client)
            entries = client.caller.directory.entries.values()
            assert all(entry.endpoint.startswith("ipc://") for entry in entries if entry.epoch)
