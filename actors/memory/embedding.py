"""all-MiniLM-L6-v2 on llama.cpp, through xllamacpp.

Every load is proved with one sentence whose vector is known: weights with flipped bits load, and
would silently make vectors that mean nothing.
"""

from __future__ import annotations

import http.client
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from actors.kernel.cores import spread_threads
from actors.kernel.vectors import packed, read_vector, rows_of
from actors.memory.reference import DIMENSION, MIN_COSINE, SENTENCE, cosine_to_reference
from protocol.errors import EngineFailed, MissingDependency

MAX_TOKENS: Final = 256
"""The model was trained on so many, with the marks of beginning and end; the reference
implementation cuts there too."""
CONTEXT_TOKENS: Final = 512
"""All positions that the model has."""
CERTAINLY_SHORT_BYTES: Final = MAX_TOKENS - 2
"""A token is made of at least one byte, so a text of so few needs no counting."""
HTTP_TIMEOUT_S: Final = 60.0


def identity_of(weights_sha256: str) -> str:
    """What the vectors of these weights are known by."""
    return f"{weights_sha256}:{DIMENSION}"


class MiniLM:
    """Implements `Embedder`. Loads at its making, which blocks.

    Raises `EngineFailed` when the file cannot be loaded or does not compute what it should, and
    `MissingDependency`.
    """

    dimension = DIMENSION

    def __init__(self, path: Path, identity: str, threads: int) -> None:
        self.identity = identity
        # Every xllamacpp server opens a port on loopback, with open CORS: without this secret
        # any page in a browser on this machine could use it.
        self._key = secrets.token_urlsafe(32)
        self._server = _load(path, threads, self._key)
        where = urlsplit(self._server.listening_address)
        self._address = (where.hostname or "127.0.0.1", where.port or 0)
        cosine = cosine_to_reference(read_vector(self.embed([SENTENCE])[0]))
        if cosine < MIN_COSINE:
            raise EngineFailed(
                f"{path} does not compute what all-MiniLM-L6-v2 does (cosine {cosine:.4f} to the "
                "reference): remove the file, it is made anew",
                path=str(path),
            )

    def embed(self, texts: Sequence[str]) -> list[bytes]:
        """See `Embedder.embed`. A text of more than 256 tokens is cut there."""
        if not texts:
            return []
        try:
            # One text in two forms cannot be mixed in one request: ids for all, or text for all.
            given: list[Any] = list(texts)
            if any(len(text.encode()) > CERTAINLY_SHORT_BYTES for text in texts):
                given = [self._tokens(text) for text in texts]
            answer = self._server.handle_embeddings({"input": given})
        except (RuntimeError, ValueError) as error:
            raise EngineFailed(f"llama.cpp could not embed: {error}") from None
        if "error" in answer:
            raise EngineFailed(f"llama.cpp could not embed: {answer['error']}")
        return packed(rows_of(answer, len(texts)), DIMENSION)

    def _tokens(self, text: str) -> list[int]:
        """The first 256 tokens, with the marks at both ends."""
        body = json.dumps({"content": text, "add_special": True}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        connection = http.client.HTTPConnection(*self._address, timeout=HTTP_TIMEOUT_S)
        try:
            connection.request("POST", "/tokenize", body, headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
            tokens = [int(token) for token in answer["tokens"]]
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            raise EngineFailed(f"llama.cpp did not count the tokens: {error!r}") from None
        finally:
            connection.close()
        return tokens if len(tokens) <= MAX_TOKENS else [*tokens[: MAX_TOKENS - 1], tokens[-1]]


def _load(path: Path, threads: int, key: str) -> Any:
    try:
        import xllamacpp
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f'remembering needs {error.name}: pip install "noyau[memory]"'
        ) from None
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    # One slot, and room for one text: on a few cores, texts side by side are no quicker than one
    # after the other (154/s, with 8 slots 150/s), and take three times the memory.
    params.n_parallel = 1
    # A text is computed in one step, as every token looks at every other.
    params.n_ctx = params.n_batch = params.n_ubatch = CONTEXT_TOKENS
    spread_threads(params, threads)
    params.cache_ram_mib = 0
    params.warmup = False
    params.fit_params = False
    params.verbosity = -1
    params.api_keys = [key]
    try:
        return xllamacpp.Server(params)
    except (RuntimeError, ValueError) as error:
        raise EngineFailed(f"{path} cannot be loaded: {error}", path=str(path)) from None
