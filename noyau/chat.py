"""``noyau chat``: a conversation that is remembered, whatever dies in between."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated

import typer

from configs.fields import default_data_folder
from noyau.options import RunFolder
from noyau.telling import tell
from noyau.terminal import EXIT_ERROR, errors, run
from protocol.client import DEFAULT_QUERY_S, Client
from protocol.errors import NotRunning, NoyauError
from protocol.messages.memory import GetConversation
from protocol.messages.orchestrator import Query

HELP = """\
/help            this
/new             begin another conversation
/id              the id of this one; `noyau chat --continue ID` goes on with it
/explain         show, or show no longer, how each answer was made
/quit, Ctrl-D    leave; the conversation stays

Enter sends. Alt-Enter, or a backslash at the end of a line, begins another line.
Ctrl-C takes back the answer that is being written."""


def chat(
    run_folder: RunFolder = None,
    conversation: Annotated[
        str,
        typer.Option(
            "--continue", "-c", metavar="ID", show_default=False,
            help="Go on with this conversation; `noyau conversations list` shows them.",
        ),
    ] = "",
    explain: Annotated[
        bool, typer.Option("--explain", "-e", help="Say how each answer was made, on stderr.")
    ] = False,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", "-t", min=0, max=5, show_default=False,
                     help="0 always takes the likeliest token."),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds until an answer is given up.")
    ] = DEFAULT_QUERY_S,
) -> None:  # fmt: skip
    """Talk with the assistant; what was said is kept.

    \b
        noyau chat
        noyau chat --continue 0190f1c2...

    Reads a pipe too: each line is a turn. `/help` lists what else can be typed.
    """
    talk = Talk(conversation, explain, temperature, timeout)
    run(lambda: _chat(run_folder, talk))


class Talk:
    """One conversation at a terminal."""

    def __init__(
        self, conversation: str, explain: bool, temperature: float | None, timeout_s: float
    ) -> None:
        self.conversation = conversation
        self.failed = False
        """Whether the last answer ended in an error."""
        self._explain = explain
        self._temperature = temperature
        self._timeout_s = timeout_s

    def command(self, line: str) -> bool:
        """Do what a line that begins with ``/`` says; False to leave."""
        match line.split()[0]:
            case "/quit" | "/exit":
                return False
            case "/help":
                errors.print(HELP, markup=False)
            case "/new":
                self.conversation = ""
                errors.print("A new conversation.", style="dim")
            case "/id":
                errors.print(self.conversation or "It has none yet: say something.", markup=False)
            case "/explain":
                self._explain = not self._explain
                errors.print(f"Explaining is {'on' if self._explain else 'off'}.", style="dim")
            case other:
                errors.print(f"There is no {other}; /help lists what there is.", markup=False)
        return True

    async def say(self, client: Client, text: str) -> None:
        """One turn: ask, stream the answer. Errors are told, and the conversation goes on."""
        query = Query(
            text=text, conversation=self.conversation, temperature=self._temperature,
            explain=self._explain,
        )  # fmt: skip
        self.failed = False
        began = False
        try:
            async with client.stream(query, timeout_s=self._timeout_s) as stream:
                async for piece in stream:
                    sys.stdout.write(piece.text)
                    sys.stdout.flush()
                    began = True
        except NotRunning:
            raise
        except NoyauError as error:
            self.failed = True
            _end_line(began)
            errors.print(f"noyau: {error.message}", style="red", markup=False, soft_wrap=True)
            return
        except asyncio.CancelledError:
            _end_line(began)
            raise
        _end_line(began)
        if stream.end is not None:
            self.conversation = stream.end.conversation
            tell(stream.end, self._explain)


def _end_line(began: bool) -> None:
    if began:
        sys.stdout.write("\n")
        sys.stdout.flush()


async def _chat(run_folder: RunFolder, talk: Talk) -> int:
    async with Client.connect(run_folder) as client:
        if talk.conversation:
            known = await client.ask(GetConversation(conversation=talk.conversation, last=1))
            errors.print(f"{known.title} ({known.total} turns so far)", style="dim", markup=False)
        async for text in _typed() if sys.stdin.isatty() else _piped():
            if text.startswith("/"):
                if not talk.command(text):
                    break
            elif text.strip():
                await _turn(client, talk, text)
        if talk.conversation:
            errors.print(f"noyau chat --continue {talk.conversation}", style="dim", markup=False)
    return EXIT_ERROR if talk.failed and not sys.stdin.isatty() else 0


async def _turn(client: Client, talk: Talk, text: str) -> None:
    """One turn, which Ctrl-C takes back without leaving the conversation."""
    answering = asyncio.ensure_future(talk.say(client, text))
    loop = asyncio.get_running_loop()
    if sys.stdin.isatty():
        import signal

        loop.add_signal_handler(signal.SIGINT, answering.cancel)
    try:
        await answering
    except asyncio.CancelledError:
        if not answering.cancelled():
            raise
        errors.print("Taken back.", style="dim")
    finally:
        if sys.stdin.isatty():
            loop.remove_signal_handler(signal.SIGINT)


async def _piped() -> AsyncGenerator[str, None]:
    """The lines of a pipe; one that ends in a backslash goes on in the next."""
    text = ""
    while line := await asyncio.to_thread(sys.stdin.readline):
        text += line.rstrip("\n")
        if text.endswith("\\"):
            text = text[:-1] + "\n"
            continue
        yield text
        text = ""
    if text:
        yield text


async def _typed() -> AsyncGenerator[str, None]:
    """What is typed, with history and editing."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def another_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.char_before_cursor == "\\":
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    session: PromptSession[str] = PromptSession(
        history=FileHistory(str(_history_path())), key_bindings=keys, multiline=True
    )
    while True:
        try:
            yield await session.prompt_async("> ", prompt_continuation="  ")
        except EOFError:
            return
        except KeyboardInterrupt:
            continue


def _history_path() -> Path:
    """Where the lines that were typed are kept, readable by their owner alone."""
    folder = default_data_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "chat_history"
    path.touch(mode=0o600)
    return path
