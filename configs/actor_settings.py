"""The settings of the built-in actors, a section for each; see `schema.py` for the rules."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from configs.fields import ActorName, LocalPath, Section


class FileQuotaSettings(Section):
    """What one actor may keep as stored files, where that is not what all may."""

    files_mib: float | None = Field(
        None,
        ge=0,
        le=1_073_741_824,
        description="MiB of its files together; 0: none. Unset: as for all.",
    )
    max_files: int | None = Field(
        None, ge=0, le=10_000_000, description="Number of its files. Unset: as for all."
    )


class StorageSettings(Section):
    """Settings of ``actors.storage:Storage``."""

    manifest: LocalPath | None = Field(
        None,
        description="Path of a manifest file (JSON) that names the assets, their sources and "
        "hashes. Unset: the built-in one, which names a small default model.",
    )
    repository: str | None = Field(
        None,
        pattern=r"^(https?|file)://\S+$",
        description="Address of a publisher's folder, made by `noyau assets publish`, whose files "
        "are used beside those of the manifest, and updated. Unset: no publisher is followed.",
    )
    repository_root: LocalPath | None = Field(
        None,
        description="Path of the publisher's root.json, which came by another way than the "
        "repository: what it signs is trusted. Unset: nothing is.",
    )
    updates: Literal["by_hand", "check", "fetch"] = Field(
        "check",
        description="What is done by itself where a publisher is followed: nothing, telling of "
        "updates, or fetching them so that `noyau assets update` has them at once. check: nobody's "
        "line is taken for gigabytes unasked. Files in use change by that command alone.",
    )
    update_check_period_s: float = Field(
        86_400,
        ge=60,
        le=31_536_000,
        description="Seconds between two looks at the publisher's. 86400: a day.",
    )
    stall_timeout_s: float = Field(
        120,
        ge=0.1,
        le=86_400,
        description="Seconds without a new byte after which a download counts as stalled and is "
        "tried again. 120: slow links pause for a minute and recover; there is no limit on the "
        "whole, however large the file.",
    )
    missing_retry_s: float = Field(
        600,
        ge=0.1,
        le=86_400,
        description="Seconds between two tries to get a file that an actor goes on without, or has "
        "a fallback of; when it is there, that actor is started with it. 600: a network that is "
        "back is used soon, and one that is away costs nothing.",
    )
    files_mib: float = Field(
        1024,
        ge=0,
        le=1_073_741_824,
        description="MiB that one actor may keep as stored files, what it is uploading counted in. "
        "1024: months of what one machine tells of itself, and any disk that holds models has it.",
    )
    max_files: int = Field(
        10_000,
        ge=0,
        le=10_000_000,
        description="Number of stored files that one actor may keep. 10000: their names are read "
        "at each start, which takes a seventh of a second, and held in memory, which takes 6 MB.",
    )
    file_quotas: dict[ActorName, FileQuotaSettings] = Field(
        default_factory=dict,
        description="Other quotas of stored files by the actor's name, such as "
        "{ job_worker = { files_mib = 10240 } }. Empty: the same for all.",
    )
    max_uploads: int = Field(
        16,
        ge=1,
        le=1000,
        description="Files that one actor may be saving at the same time; the next is refused with "
        "`overloaded`. 16: more would only wait for the disk, and each keeps room reserved.",
    )
    upload_timeout_s: float = Field(
        300,
        ge=1,
        le=86_400,
        description="Seconds after which an upload that nobody goes on with is dropped; until then "
        "it counts against the quota. 300: longer than its sender may be stopped or waited for.",
    )
    connections: int = Field(
        4,
        ge=1,
        le=32,
        description="Connections to one server for one file. 4: more gain little where the line is "
        "the bound, and a server may mind.",
    )
    bandwidth_bytes_per_s: int | None = Field(
        None,
        ge=1024,
        description="Bytes per second that all downloads together may take. Unset: as fast as they "
        "come.",
    )
    private_redirects: bool = Field(
        False,
        description="Whether a server on the internet may send a download on to an address of a "
        "private network. false: it could make this machine ask what it cannot reach itself.",
    )
    keep_wheels: bool = Field(
        False,
        description="Whether wheels that assets were taken from are kept: a repair needs no "
        "network then. false: each takes as much of the disk again as what was in it.",
    )
    scrub_period_s: float = Field(
        604_800,
        ge=0,
        le=31_536_000,
        description="Seconds within which every asset is read once in the background, to find what "
        "the disk has spoiled; 0: never. 604800: a week.",
    )
    scrub_bytes_per_s: int = Field(
        50_000_000,
        ge=1024,
        description="Bytes per second at which that is done. 50000000: a twentieth of what a "
        "common disk gives, and 10 GB in less than four minutes.",
    )
    prefetch: bool = Field(
        True,
        description="Whether files that were in use before are read ahead into memory after a "
        "boot, while nothing else is done and half of the free memory is enough. true: the first "
        "load waits less.",
    )


class ExpertSettings(Section):
    """An expert: a model, a prompt and how to sample. What is unset is as for any other query."""

    model: str | None = Field(
        None,
        min_length=1,
        description="One of the models that the engines' settings name. Unset: their first, as one "
        "model with another prompt is often expert enough.",
    )
    system_prompt: str | None = Field(
        None, description="Text put before a conversation that has no system message. Unset: none."
    )
    max_tokens: int | None = Field(
        None, ge=1, le=1_000_000, description="Longest answer in tokens. Unset: as usual."
    )
    temperature: float | None = Field(
        None, ge=0, le=5, description="Sampling temperature, without unit. Unset: as usual."
    )
    top_p: float | None = Field(
        None, gt=0, le=1, description="Nucleus sampling, a share. Unset: as usual."
    )
    top_k: int | None = Field(
        None, ge=0, le=1_000_000, description="Tokens that are sampled from. Unset: as usual."
    )
    min_p: float | None = Field(
        None, ge=0, le=1, description="Least share of the likeliest token. Unset: as usual."
    )


class OrchestratorSettings(Section):
    """Settings of ``actors.orchestrator:Orchestrator``."""

    experts: dict[str, ExpertSettings] = Field(
        default_factory=dict,
        description="Experts that a query may ask for, by name, such as "
        '{ code = { system_prompt = "Answer with code.", temperature = 0.2 } }. Empty: none.',
    )

    history_turns: int = Field(
        100,
        ge=1,
        le=10_000,
        description="Last turns of a conversation that are looked at for the prompt; those that "
        "do not fit into the model's context are left out, oldest first. 100: more than a small "
        "context holds, few enough to be read in a millisecond.",
    )
    memories: int = Field(
        3,
        ge=0,
        le=100,
        description="Most memories that are put into a prompt; 0 uses none. 3: a small model loses "
        "the question among more.",
    )
    memory_min_score: float = Field(
        0.4,
        ge=-1,
        le=1,
        description="Cosine similarity, without unit, that a memory must have with the question. "
        "0.4: with all-MiniLM-L6-v2 what is about the same thing lies above it, what merely "
        "shares words below.",
    )

    system_prompt: str | None = Field(
        None,
        description="Text put before a conversation that has no system message. Unset: none, so "
        "that nothing is said in the user's name.",
    )
    max_tokens: int = Field(
        512,
        ge=1,
        le=1_000_000,
        description="Longest answer in tokens when the query names none. 512: about a page, and "
        "a quarter of a slot's default context.",
    )
    temperature: float = Field(
        0.7,
        ge=0,
        le=5,
        description="Sampling temperature, without unit; 0 always takes the likeliest token. "
        "0.7: the usual middle between dull and erratic.",
    )
    top_p: float = Field(
        0.95,
        gt=0,
        le=1,
        description="Share of the probability mass that is sampled from (nucleus sampling). "
        "0.95: cuts the unlikely tail only.",
    )
    top_k: int = Field(
        40,
        ge=0,
        le=1_000_000,
        description="Tokens that are sampled from at most, the likeliest ones; 0 is no limit. 40: "
        "what llama.cpp takes by default.",
    )
    min_p: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Probability that a token must have, as a share of the likeliest one's; 0 is "
        "none. 0.05: what llama.cpp takes by default.",
    )
    repeat_penalty: float = Field(
        1.0,
        gt=0,
        le=10,
        description="What the logits of recent tokens are divided by, without unit; 1 is nothing. "
        "1: more makes models avoid words that they need.",
    )
    seed: int | None = Field(
        None,
        ge=0,
        le=2**32 - 1,
        description="Seed of the sampler, a whole number without unit. Unset: a fresh one for "
        "each query.",
    )


class MemorySettings(Section):
    """Settings of ``actors.memory:Memory``."""

    weights: str = Field(
        "all-minilm-l6-v2",
        min_length=1,
        description="Name of the asset with the embedding model's weights (safetensors of "
        "all-MiniLM-L6-v2). The manifest's own, so that a first start needs no choice.",
    )
    vocabulary: str = Field(
        "all-minilm-l6-v2-vocabulary",
        min_length=1,
        description="Name of the asset with the embedding model's vocabulary. The manifest's own.",
    )
    threads: int = Field(
        1,
        ge=1,
        le=64,
        description="CPU threads of the embedding model. 1: a sentence takes some milliseconds, "
        "and two threads that wait for each other are far slower while the language model works.",
    )
    batch_texts: int = Field(
        32,
        ge=1,
        le=1024,
        description="Texts embedded in one go. 32: what waits is taken together, and nobody waits "
        "for more than about a quarter of a second behind a batch.",
    )
    max_waiting_texts: int = Field(
        1024,
        ge=1,
        le=1_000_000,
        description="Texts that may wait to be embedded; the next is refused with `overloaded`. "
        "1024: some ten seconds of work, after which most callers have given up.",
    )
    duplicate_score: float = Field(
        0.95,
        gt=0,
        le=1,
        description="Cosine similarity, without unit, from which a text counts as remembered "
        "already. 0.95: other wording of the same sentence; what only speaks of the same is less.",
    )
    max_text_chars: int = Field(
        16_384,
        ge=1,
        le=1_000_000,
        description="Longest text of one memory in characters. 16384: some pages. The model reads "
        "the first 256 tokens, so a longer text would be found by its beginning alone.",
    )
    max_turn_chars: int = Field(
        262_144,
        ge=1,
        le=4_000_000,
        description="Longest content of one turn of a conversation in characters, and of its "
        "metadata as JSON. 262144: more than any context of a local model holds.",
    )
    approximate_above: int = Field(
        200_000,
        ge=0,
        le=100_000_000,
        description="Number of memories above which they are searched with an approximate index. "
        "200000: exact search takes 10 to 30 ms there, and its matrix 300 MB.",
    )


class ToolSettings(Section):
    """Settings of ``actors.tool_user:ToolUser``."""

    folders: list[LocalPath] = Field(
        default_factory=list,
        description="Folders of tools besides the built-in ones: each .py file there is a tool. "
        "Empty: no code runs that its owner did not name.",
    )
    switched_off: list[str] = Field(
        default_factory=list,
        description="Names of tools that are left out. Empty: the built-in ones reach nothing "
        "outside without being allowed to.",
    )
    options: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="What tools are told by their owner, by the tool's name, such as "
        '{ read_file = { allowed = ["/srv/notes"] } }. Empty: read_file may read nothing.',
    )
    timeout_s: float = Field(
        10,
        gt=0,
        le=3600,
        description="Seconds a call may take that names no time of its own. 10: somebody waits "
        "for the answer that needs it.",
    )
    cpu_s: int = Field(
        30,
        ge=1,
        le=86_400,
        description="CPU seconds of one process of a tool. 30: above the usual deadline, so that "
        "it only meets calls that were given a long one.",
    )
    memory_mib: int = Field(
        256,
        ge=16,
        le=1_048_576,
        description="Memory in MiB that one process of a tool may map beyond what it is born "
        "with. 256: a large file fits, and several such tools at once fit a small machine.",
    )
    file_mib: int = Field(
        64,
        ge=1,
        le=1_048_576,
        description="Largest file in MiB that a tool may write in its working folder. 64: an "
        "endless one does not fill the disk.",
    )
    output_bytes: int = Field(
        64 * 1024,
        ge=256,
        le=2 * 1024 * 1024,
        description="Longest result in bytes; what is longer is cut and says so. 64 KiB: about "
        "16,000 tokens, more than the default model's context holds.",
    )
    max_running: int = Field(
        8,
        ge=1,
        le=1000,
        description="Tools that run at the same time; the next call is refused with `overloaded`. "
        "8: more would take turns on a small machine's cores.",
    )
    similarity: float = Field(
        0.6,
        ge=0,
        le=1,
        description="Cosine, without unit, from which on a text counts as meant for a tool that "
        "it is like. 0.6: with the default embedding model, five of 27 questions that were for no "
        "tool (what is a calculator?) lay between 0.5 and 0.57, none above. What lies above is a "
        "guess all the same: arguments that do not fit the tool end it.",
    )
