"""Cutting files into chunks, so that an update fetches little more than what changed.

    published file ──cut──► chunks, with their hashes, in the manifest
    a client's older file, or any other ──cut alike──► which of those chunks are here already

Cutting looks at nothing but bytes that lie near, so a change leaves the boundaries far from it
alone. What a method's name and ``piece`` mean never changes; another way to cut gets another name.

===========  =====================================================================================
``tensors``  GGUF and safetensors: each tensor by itself, from its own beginning on; else as content
``content``  where the bytes say so (FastCDC)
``fixed``    at equal distances
===========  =====================================================================================
"""

from actors.storage.chunking.choice import best_chunking
from actors.storage.chunking.cutting import check_chunking, cut
from actors.storage.chunking.files import chunks_of, each_chunk

__all__ = ["best_chunking", "check_chunking", "chunks_of", "cut", "each_chunk"]
