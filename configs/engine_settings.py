"""The settings of an engine; see `schema.py` for the rules."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.fields import LocalPath, Section, ServerUrl, wrong

GPU_ELSEWHERE = ("simulated", "openai_http")
"""Backends that use no GPU of this machine, whatever `device` says: it is made up or a server's."""


class EngineSettings(Section):
    """Settings of ``actors.engine:Engine``."""

    device: Literal["cpu", "gpu"] = Field(
        "cpu",
        description="What the model computes on. With gpu, and no GPU in the machine or in the "
        "build of the library, the engine is `unavailable`. cpu, because every machine has one. Of "
        "the backend `openai_http`: what its server is said to compute on, which it does not tell.",
    )
    backend: str = Field(
        "llama_cpp",
        min_length=1,
        description="Name of the model library's backend. llama_cpp: runs quantised models on "
        "any CPU. transformers: torch, on a GPU. openai_http: a server of OpenAI's API, such as "
        "llama-server or vLLM.",
    )
    model: str = Field(
        "default",
        min_length=1,
        description="Which model: the name of an asset, `default` (the manifest's default), or "
        "the path of a GGUF file. `default`, so that a first start needs no choice.",
    )
    context_tokens: int = Field(
        8192,
        ge=128,
        le=16_777_216,
        description="Tokens of context, divided among the slots. 8192: 2048 for each of four "
        "slots, at a memory cost that a small machine has.",
    )
    slots: int = Field(
        4,
        ge=1,
        le=256,
        description="Answers generated at the same time. 4: batching still gains speed on a CPU "
        "there, and each answer stays readable while it streams.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="CPU threads of the engine. Unset: all cores, and each thread keeps to one of "
        "them; with another number they go where there is room.",
    )
    batch_tokens: int = Field(
        64,
        ge=1,
        le=65_536,
        description="Prompt tokens evaluated in one step. 64: prefill is reported, and can be "
        "cancelled, once per batch, which is four times a second on two cores, and reads prompts "
        "7 % slower than 256 does there. The entry of gpu_engine has 512: a GPU is not busy with "
        "less.",
    )
    niceness: int = Field(
        0,
        ge=0,
        le=19,
        description="Steps that the model's threads give way to others more than their process "
        "does, as in nice(1), without unit; `niceness` of the entry itself is that of the process. "
        "0: they get their fair share beside other programs. More lets messages pass them sooner; "
        "whether that pays was not measured reliably yet.",
    )
    simulated_token_s: float | None = Field(
        None,
        ge=0,
        le=60,
        description="Of the backend `simulated`: seconds for each token. Unset: 0.01 as a GPU, "
        "0.05 as a CPU, the speeds of a small model on a fast and on a slow machine.",
    )
    simulated_failure: Literal[
        "none", "fail", "stall", "die", "garble", "slow", "out_of_memory", "nan"
    ] = Field(
        "none",
        description="Of the backend `simulated`: what happens after "
        "`simulated_failure_after_tokens`: an error, silence for ever, SIGKILL of the process, "
        "garbage from there on, a tenth of the speed, the error of a device without memory, or "
        "that of numbers that are none. none: it works.",
    )
    simulated_failure_after_tokens: int = Field(
        20,
        ge=0,
        le=1_000_000,
        description="Of the backend `simulated`: tokens of the whole answer, continued parts "
        "included, after which it fails. 20: in the middle of a sentence.",
    )
    models: dict[str, str] = Field(
        default_factory=dict,
        description="Further models, by the name by which queries and experts ask for them: each "
        "an asset, the path of a GGUF file, or a server's name for it. They are loaded when they "
        "are asked for. Empty: one model is what most machines have room for.",
    )
    embedding_models: dict[str, str] = Field(
        default_factory=dict,
        description="Models that turn texts into vectors, by the name by which they are asked for: "
        "each an asset, the path of a GGUF file, or a server's name for it. They are loaded as "
        "further models are, and answer no queries. Empty: memory has one of its own.",
    )
    max_loaded: int = Field(
        2,
        ge=1,
        le=64,
        description="Models loaded at the same time; the one used least recently makes room. 2: "
        "the first one, and the one that is asked for. Less where memory ends sooner.",
    )
    keep_alive_s: float = Field(
        300,
        ge=0,
        le=2_592_000,
        description="Seconds that a further model stays loaded after it was last used, unless a "
        "query says otherwise. 300: as long as a conversation pauses.",
    )
    speculation: Literal["none", "draft", "ngram"] = Field(
        "none",
        description="Whether tokens are guessed ahead and checked together (speculative decoding, "
        "with llama_cpp). draft: by a small model of the same vocabulary (draft_model); ngram: "
        "from what was said before. none: what it gains depends on model and machine, and on a "
        "CPU it may cost.",
    )
    draft_model: str | None = Field(
        None,
        min_length=1,
        description="The model that guesses: an asset, or the path of a GGUF file. Unset: none.",
    )
    draft_tokens: int = Field(
        8,
        ge=1,
        le=64,
        description="Tokens that are guessed at most before they are checked. 8: more are rarely "
        "all right.",
    )
    prompt_cache_mib: int = Field(
        256,
        ge=0,
        le=1_048_576,
        description="Memory in MiB for evaluated prompts that later queries may begin with. 256: "
        "some long conversations of a small model. 0 switches it off.",
    )
    url: ServerUrl | None = Field(
        None,
        description="Of the backend `openai_http`: the base URL of the server, such as "
        "http://127.0.0.1:8080/v1. Unset: none, as nobody knows where yours is.",
    )
    api_key_file: LocalPath | None = Field(
        None,
        description="Of the backend `openai_http`: path of a file that holds the server's API key, "
        "in one line. Never the key itself: settings are shown and logged. Unset: no key is sent.",
    )
    remote_model: str | None = Field(
        None,
        min_length=1,
        description="Of the backend `openai_http`: name of the model at the server. Unset: the "
        "first that it lists, as most have one.",
    )
    server_kind: Literal["auto", "llama_cpp", "vllm", "sglang", "other"] = Field(
        "auto",
        description="Of the backend `openai_http`: whose API it is beyond OpenAI's, which going on "
        "with an answer needs. auto: as the server says in its list of models; say it where a "
        "proxy in between hides that.",
    )
    connect_timeout_s: float = Field(
        5,
        gt=0,
        le=300,
        description="Of the backend `openai_http`: seconds for reaching the server, once for each "
        "request. 5: a lost packet is sent again within three; what is there answers.",
    )
    server_wait_s: float = Field(
        10,
        ge=0,
        le=100,
        description="Of the backend `openai_http`: seconds that the start waits for a server that "
        "is not there yet or still loads its model, before it fails and is tried again. 10: slow "
        "enough for the restarts not to count as a crash loop, so that it is tried for ever.",
    )

    @model_validator(mode="after")
    def _names_are_different(self) -> EngineSettings:
        for further in (self.models, self.embedding_models):
            if "default" in further:
                raise wrong(
                    "default is the name of the first model",
                    "give the further one another name, or set model",
                )
        both = sorted(self.models.keys() & self.embedding_models.keys())
        if both:
            raise wrong(
                f"{', '.join(both)}: in models and in embedding_models",
                "give the one that embeds another name",
            )
        return self

    @model_validator(mode="after")
    def _knows_its_server(self) -> EngineSettings:
        if self.backend == "openai_http" and self.url is None:
            raise wrong(
                "the backend openai_http has no server", "set url, such as http://127.0.0.1:8080/v1"
            )
        return self
