"""Which paths a manifest may name. None may leave the asset folder, on any file system. Pure.

A path that is harmless here may be something else where the folder is copied to: a device on
Windows (``con.txt``), the same file as another where case does not count or names are normalised.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Final

STORE_ENTRIES: Final = frozenset(
    {"staging", "versions", "quarantine", "index", "locks", "tmp", "wheels", "trust", "manifests",
     "applied.json", "local.json", "pins.json", "verified.json", "verified.json.tmp",
     "history.jsonl"}
)  # fmt: skip
"""What the store itself keeps in the asset folder; no asset's path can begin with one of these."""
DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"}
)
"""Names that are devices on Windows, with whatever extension, in every folder (Microsoft, "Naming
Files, Paths, and Namespaces")."""
_FORBIDDEN: Final = frozenset('<>:"|?*\\')
MOST_BYTES: Final = 255
"""Of one part of a path (NAME_MAX of Linux's file systems)."""
MOST_PATH_BYTES: Final = 1024


def check_asset_path(path: str) -> str:
    """``path`` if it is plain, relative, and stays below the asset folder; else ``ValueError``."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        raise ValueError("must stay inside the asset folder: relative, without '..'")
    if not pure.parts or str(pure) != path or not path.isprintable() or "\\" in path:
        raise ValueError("must be a plain path with '/' between its parts, such as 'models/x.gguf'")
    if unicodedata.normalize("NFC", path) != path:
        raise ValueError("must be in Unicode's normal form C: some file systems change it to that")
    if len(path.encode()) > MOST_PATH_BYTES:
        raise ValueError(f"must not be longer than {MOST_PATH_BYTES} bytes")
    for part in pure.parts:
        _check_part(part)
    if pure.parts[0].casefold() in STORE_ENTRIES or pure.parts[0].endswith(".lock"):
        raise ValueError(f"must not begin with {pure.parts[0]!r}, which the store itself uses")
    return path


def _check_part(part: str) -> None:
    if bad := sorted(_FORBIDDEN.intersection(part)):
        raise ValueError(f"must not have {bad[0]!r} in it, which some file systems do not allow")
    if part[-1] in " ." or part[0] == " ":
        raise ValueError(f"has the part {part!r}: none may begin or end with a space, or end with "
                         "a dot, which some file systems drop")  # fmt: skip
    if part.partition(".")[0].rstrip(" ").casefold() in DEVICES:
        raise ValueError(f"has the part {part!r}, which is a device on Windows")
    if len(part.encode()) > MOST_BYTES:
        raise ValueError(f"must not have a part of more than {MOST_BYTES} bytes")


def collisions(paths: Iterable[str]) -> Iterator[str]:
    """What is wrong with these paths beside each other, each checked by itself already: two that
    are one file, or one that is another's folder, also where neither case nor form counts."""
    alike: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        alike[_folded(path)].append(path)
    for same in alike.values():
        if len(same) > 1:
            one, other = same[:2]
            if one == other:
                yield f"{len(same)} files have the path {one!r}; each needs its own"
            else:
                yield f"the paths {one!r} and {other!r} are one where case does not count"
    for folded, (path, *_) in alike.items():
        for folder in PurePosixPath(folded).parents:
            if str(folder) in alike:
                yield f"the path {alike[str(folder)][0]!r} is the folder that {path!r} lies in"


def _folded(path: str) -> str:
    """The same for two paths that some file system takes for one."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFD", path).casefold())
