"""Messages to the orchestrator: the questions that users ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field

from protocol.envelope import new_id
from protocol.errors import ActorDied, NoyauError
from protocol.lifecycle import ActorState, Health, Profile
from protocol.messages.base import Ask, Message, Role, Stream
from protocol.messages.engine import NAME, ChatMessage, Format, FunctionCall, TokenLogprob


class Seam(Message):
    """A place where an answer went on after something died. In the metadata, never in the text."""

    position: int
    """Characters of the answer before the seam."""
    lost: str
    """Which process was lost: ``NAME.EPOCH``, or ``supervisor``."""
    reason: str
    gap_ms: float = 0.0
    """From the loss being noticed to the next text."""


class Text(Message):
    """The next piece of the answer."""

    text: str
    count: int = 1
    """How many tokens this is."""
    seam: Seam | None = None
    """Set on the first piece after a seam."""
    logprobs: list[TokenLogprob] = Field(default_factory=list)
    """Of these tokens, where they were asked for."""
    is_call: bool = False
    """It is a part of a function call and not to be shown: `Answered.calls` has it whole."""


class Begun(Message):
    """What the client has received of an answer whose orchestrator died."""

    text: str
    seams: list[Seam] = Field(default_factory=list)
    lost: str = "orchestrator"
    """``NAME.EPOCH`` where the client knows which incarnation that was."""
    died: bool = False
    """Whether it died with the query in hand; it may also have handed it back in order."""
    reason: str = ""
    gap_ms: float = 0.0
    """From the loss being noticed by the client to this request."""


class EngineUse(Message):
    """One engine's part in an answer."""

    engine: str
    """``NAME.EPOCH``."""
    device: str
    backend: str
    """``simulated`` is no model at all."""
    model_name: str
    prompt_tokens: int
    completion_tokens: int
    prefill_ms: float
    decode_ms: float
    tokens_per_s: float
    cached_tokens: int = 0
    load_ms: float = 0.0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    """These as in `Generated`."""


class Failover(Message):
    """An engine that should have made the answer, or more of it, and did not."""

    engine: str
    """``NAME.EPOCH``; or ``NAME`` where it was not asked."""
    code: str
    """Of the error by which it was lost; ``circuit_open`` where it was passed over."""
    reason: str
    position: int
    """Characters of the answer that there were."""


class Usage(Message):
    """What was computed, in tokens."""

    prompt_tokens: int = 0
    """Of the question with all that was put before it."""
    completion_tokens: int = 0
    """Of the answer."""
    cached_tokens: int = 0
    """Of the prompt's, those that the engine had read before."""


class MemoryUse(Message):
    """A memory that was put into the prompt."""

    id: str
    score: float
    """Cosine similarity to the question."""
    text: str


class ToolUse(Message):
    """The tool that answered."""

    name: str
    how: Literal["exact", "similar"]
    arguments: dict[str, Any]
    took_ms: float


class Answered(Message):
    """How the answer was made."""

    id: str
    """The query's, as the client chose it."""
    query: str
    """What the logs of every process call ``correlation``, in hex."""
    finish_reason: Literal["stop", "length", "calls", "repetition"]
    """``calls``: the model wants functions called; ``repetition``: it had begun to say the same
    over and over."""
    profile: Profile
    """The device profile, which says what may be expected of an answer here."""
    engines: list[EngineUse]
    """Those that finished their part; one that died did not live to tell its figures."""
    seams: list[Seam]
    tokens: int
    """Tokens of the answer that this incarnation of the orchestrator passed on."""
    queued_ms: float
    first_token_ms: float | None
    """From the query's arrival at this incarnation; None when there was no text to add."""
    total_ms: float
    engine: str = ""
    """``NAME.EPOCH`` of the one that ended it; empty where no model was asked."""
    device: str = ""
    """What that one computed on."""
    devices: list[str] = Field(default_factory=list)
    """All on which some of it was computed."""
    expert: str = ""
    """Whose answer it is, where one was asked for and there."""
    failovers: list[Failover] = Field(default_factory=list)
    """The engines that were lost or passed over, in their order."""
    usage: Usage = Usage()
    calls: list[FunctionCall] = Field(default_factory=list)
    """The functions that the model wants called."""
    conversation: str = ""
    """The one it belongs to; of a new one, this is how its id is learnt."""
    memories: list[MemoryUse] = Field(default_factory=list)
    tool: ToolUse | None = None
    prompt: list[ChatMessage] = Field(default_factory=list)
    """What the engine was given, where the query asked for that."""
    dropped_turns: int = 0
    """Oldest turns of the conversation that did not fit into the model's context."""
    missing: list[str] = Field(default_factory=list)
    """What the answer was made without, and why."""
    degraded: bool = False
    """Made in a way worse than the device profile promises: something was missing."""


class BreakerStatus(Message):
    """A circuit breaker. Totals are since the orchestrator started; ages are in seconds."""

    state: Literal["closed", "open", "half_open"]
    generation: int
    """Raised with each change of state."""
    failure_count: int
    """Of those that open it."""
    success_count: int
    """Of probes, of those that close it."""
    probes_in_flight: int
    opens_for_s: float | None
    """Until it is probed; None where it is not open."""
    granted: int
    successes: int
    failures: int
    ignored: int
    """Calls that said nothing: taken back, or the client's mistake."""
    rejections: int
    forced: int
    """Calls past the open breaker, where no other engine was there."""
    slow: int
    last_failure_s: float | None
    """Ago."""
    last_success_s: float | None


class EngineStatus(Message):
    """An engine as the orchestrator sees it."""

    name: str
    epoch: str
    state: ActorState
    health: Health
    reason: str
    device: str
    backend: str
    model: str
    slots: int
    running: int
    """Answers that it works on."""
    breaker: BreakerStatus


class QueueStatus(Message):
    """The admission queue in front of the engines. Totals are since the orchestrator started."""

    waiting: dict[str, int]
    """By priority: ``critical``, ``high``, ``normal``, ``low``."""
    running: int
    slots: int
    tokens: int
    """In flight: prompts and longest answers of all that run."""
    max_waiting: int
    entered: int
    admitted: int
    finished: int
    dropped: int
    abandoned: int
    expired: int
    refused: dict[str, int]
    """By reason; never taken in."""
    rate_per_s: float | None
    estimated_wait_s: float
    overloaded_for_s: float | None
    """Until LOW and NORMAL are taken again, at the latest; None where they are."""


class RuntimeStatus(Message):
    """How queries are answered now."""

    profile: Profile
    queue: QueueStatus
    engines: list[EngineStatus]
    queries: BreakerStatus
    """The circuit breaker of queries as a whole."""
    experts: list[str]


class GetRuntime(Ask[RuntimeStatus], operation="orchestrator.runtime", role=Role.OBSERVE):
    """How do queue, engines and circuit breakers do?"""

    idempotent = True


class Function(Message):
    """A function that the client can run."""

    name: str = Field(pattern=NAME)
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object"})
    """JSON Schema of its arguments."""


class Query(Stream[Text, Answered], operation="orchestrator.query", role=Role.ASK):
    """A question. Give ``text``, or a whole conversation in ``messages``."""

    id: str = Field(default_factory=lambda: new_id().hex(), pattern=r"^[0-9A-Za-z_-]{1,64}$")
    """Names the query through all incarnations; the client chooses it."""
    text: str = ""
    messages: list[ChatMessage] = Field(default_factory=list)
    conversation: str | None = Field(default=None, max_length=64)
    """Goes on with this conversation; empty begins one; None belongs to none."""
    memories: bool = True
    """Whether what is remembered may be put into the prompt."""
    tools: bool = True
    """Whether a tool that the question is surely meant for may answer it."""
    explain: bool = False
    """Whether the prompt is told with the answer."""
    fail_if_degraded: bool = False
    """Whether an answer that would be made in a way worse than the device profile promises is
    refused instead (`WouldBeDegraded`), also where that turns out in the middle of it."""
    user: str = Field(default="", max_length=256)
    """Whom a client asks for, where it asks for several: they get their turns one by one."""
    expert: str = Field(default="", max_length=64)
    """One of those in the settings; where it is not there, the answer is made without and says
    so."""
    model: str = Field(default="", max_length=1024)
    """One of those that the engines' settings name; empty is their first."""
    keep_alive_s: float | None = Field(default=None, ge=0, le=2_592_000, allow_inf_nan=False)
    """Seconds that the model stays loaded after this; None is what the settings say."""
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    temperature: float | None = Field(default=None, ge=0, le=5, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=0, le=1_000_000)
    min_p: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    repeat_penalty: float | None = Field(default=None, gt=0, le=10, allow_inf_nan=False)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2, allow_inf_nan=False)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2, allow_inf_nan=False)
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    stop: list[str] = Field(default_factory=list, max_length=16)
    format: Format | None = None
    """What the answer must look like."""
    functions: list[Function] = Field(default_factory=list, max_length=128)
    """What the client can run for the model; their calls come in `Answered.calls`."""
    function_choice: str = Field(default="auto", max_length=64)
    """``auto``, ``none``, ``required``, or the name of the one that must be called."""
    logprobs: int | None = Field(default=None, ge=0, le=20)
    """Tell how likely each token was, and so many others."""
    begun: Begun | None = None
    """Set by the client library when it asks the next incarnation to go on."""

    def resume_from(self, received: Sequence[Text], loss: NoyauError, gap_ms: float) -> Self:
        """The same question, to be gone on with after the text that was received."""
        before = self.begun or Begun(text="")
        seams = [*before.seams, *(piece.seam for piece in received if piece.seam)]
        text = before.text + "".join(piece.text for piece in received)
        begun = Begun(text=text, seams=seams, reason=str(loss), gap_ms=gap_ms)
        if isinstance(loss, ActorDied) and loss.process is not None:
            begun = begun.model_copy(update={"lost": loss.process, "died": True})
        return self.model_copy(update={"begun": begun})
