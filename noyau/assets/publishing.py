"""The verbs of ``noyau assets`` for who publishes files: ``publish`` and ``keys``.

What signs and compresses is imported where it is used: the other verbs need none of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from noyau.assets.bar import progress_bar
from noyau.assets.doing import do_here
from noyau.options import AsJson
from noyau.terminal import errors, fail, run
from protocol.errors import InvalidRequest, NoyauError, UnusableKey

if TYPE_CHECKING:
    from actors.storage.publisher import Report
    from actors.storage.trust.keys import KeyRole, SigningKey
    from actors.storage.trust.roles import RoleState, Validity
    from actors.storage.trust.root_file import RootFile
    from actors.storage.trust.signing import Repository

OUT_HELP = "The published folder, which any static web server can serve."
KEYS_HELP = "Where the keys are. Never inside the published folder."

Out = Annotated[Path, typer.Argument(metavar="OUT", help=OUT_HELP)]
Keys = Annotated[Path, typer.Option("--keys", "-k", metavar="DIR", help=KEYS_HELP)]
Days = Annotated[
    float,
    typer.Option(
        "--days", min=0.01,
        help="How long clients believe that nothing newer was published. Run `noyau assets keys "
        "renew` more often than that, by a timer.",
    ),
]  # fmt: skip

keys = typer.Typer(
    help="The keys of a publisher: made, listed, renewed and replaced.\n\n"
    "The [bold]root[/] key says which keys count, and lies in a drawer; the [bold]online[/] key "
    "signs what is published. Who follows the publisher needs its root.json, by another way than "
    "the web server.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


def publish(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="With the files to publish.")],
    out: Out,
    keys: Keys,
    days: Days = 7.0,
    as_json: AsJson = False,
) -> None:
    """Make a folder that any static web server can serve, and sign it.

    Every file below DIR is hashed, cut into pieces and, where an earlier version was published,
    compared with it. Hidden files are left out; what else is no file, such as a link to a folder,
    is refused, and what is gone since the version before is named. What the files are called, and
    what is new in them, DIR/publish.toml says; see docs/assets.md.

    The first time, the keys in the key folder are those that count, and without any they are made:
    keep the root's somewhere else. A key folder is for one OUT.
    """
    run(lambda: _publish(folder, out, keys, days, as_json))


async def _publish(folder: Path, out: Path, key_folder: Path, days: float, as_json: bool) -> int:
    from actors.storage.publisher import check_apart, prepare
    from actors.storage.release import read_release
    from actors.storage.trust.root_file import RootFile

    check_apart(folder, out, key_folder)
    repository, root_file = _repository(out, key_folder, days), RootFile(key_folder)
    # Before a key is made.
    read_release(folder)
    if repository.is_published():
        _require_root(repository.validity(), out, key_folder)
    else:
        root_file.check(repository.roots(), out)
        repository.begin()
    repository.unlock()
    with progress_bar(quiet=as_json) as bar:
        report = await do_here(lambda watch: prepare(folder, out, repository.publish, watch), bar)
    # Last, so that whoever repeats what failed is still told of it.
    roots, validity = repository.roots(), repository.validity()
    root, problem = _bring_root(root_file, roots, out)
    if as_json:
        print(json.dumps(_as_json(report, root, validity), indent=2))
    else:
        errors.print(
            f"Version {report.version} is in {out}: {report.files} files in {report.chunks:,} "
            f"pieces ({_changes(report)}).",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
        _tell_validity(validity, out)
        if root is not None:
            _tell_of_root(root)
    if validity.root_is_due:
        _warn(_root_ends(validity, out, key_folder))
    if problem:
        _warn(problem)
    return 0


def _bring_root(root_file: RootFile, roots: Sequence[bytes], out: Path) -> tuple[Path | None, str]:
    """Have the root beside the keys: returns where it was put, and what is wrong with what is
    there. All is published by then, so that this is no error."""
    try:
        if root_file.add(roots):
            return root_file.path, ""
        if root_file.fits(roots):
            return None, ""
    except NoyauError as error:
        return None, error.message
    newest = out / "metadata" / f"{len(roots)}.root.json"
    return None, f"{root_file.mismatch(out)}: who follows you needs {newest}"


def _tell_of_root(root: Path) -> None:
    errors.print(
        f"The keys are in {root.parent}. Take the root key out of there, into a drawer: it is "
        "needed only to replace keys, and once a year.\n"
        f"Who follows you needs {root}, from your hand, and in the settings\n"
        "  actors.storage.settings.repository = \"https://…\"\n"
        f"  actors.storage.settings.repository_root = \"…/{root.name}\"",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def _tell_validity(validity: Validity, out: Path) -> None:
    days = round(validity.left / timedelta(days=1), 2)
    errors.print(
        f"Clients believe {out} for another {days:g} days. Its {validity.first.role} expires "
        f"first, on {validity.first.expires:%Y-%m-%d at %H:%M} UTC.",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip


def _root_ends(validity: Validity, out: Path, key_folder: Path) -> str:
    """That the root expires, or has, and what to do."""
    day = f"{validity.root.expires:%Y-%m-%d}"
    begun = (
        f"Every client refuses {out}: its root expired on {day}"
        if validity.root_expired
        else f"The root of {out} expires on {day}, in {validity.root_left / timedelta(days=1):.0f} "
        "days, and then every client refuses all of it"
    )
    return (
        f"{begun}. Bring the root key into {key_folder}, sign anew, and take it out again:\n"
        f"  noyau assets keys renew {out} --keys {key_folder}"
    )


def _require_root(validity: Validity, out: Path, key_folder: Path) -> None:
    if validity.root_expired:
        raise UnusableKey(_root_ends(validity, out, key_folder))


def _warn(text: str) -> None:
    errors.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)


def _changes(report: Report) -> str:
    gone = f"gone: {', '.join(report.removed)}" if report.removed else ""
    changed = ", ".join(report.changed)
    return "; ".join(part for part in (changed, gone) if part) or "nothing changed"


def _as_json(report: Report, root: Path | None, validity: Validity) -> dict[str, object]:
    return {
        "version": report.version, "files": report.files, "changed": report.changed,
        "removed": report.removed, "chunks": report.chunks,
        "manifest_bytes": report.manifest_bytes, "patches": report.patches,
        "new_root": str(root) if root else None,
        "believed_until": validity.first.expires.isoformat(),
        "expires_first": validity.first.role,
    }  # fmt: skip


def _repository(out: Path, key_folder: Path, days: float = 7.0) -> Repository:
    from actors.storage.trust.keys import KeyFolder
    from actors.storage.trust.roles import LONGEST, Lifetimes
    from actors.storage.trust.signing import Repository

    # Not a number, too, is not in between.
    if not 0 < days <= LONGEST.days:
        raise InvalidRequest(
            f"--days must be more than 0 and up to {LONGEST.days}, and not {days:g}"
        )
    return Repository(
        out,
        KeyFolder(key_folder, passphrase=_ask_passphrase),
        lifetimes=Lifetimes(timestamp=timedelta(days=days)),
    )


def _ask_passphrase(path: Path) -> str:
    try:
        asked: str = typer.prompt(f"Passphrase of {path}", hide_input=True, err=True)
    except typer.Abort:
        raise UnusableKey(f"no passphrase was given for {path}") from None
    return asked


@keys.command()
def new(
    keys: Keys,
    role: Annotated[str, typer.Argument(metavar="root|online", help="What it is for.")],
    encrypted: Annotated[
        bool, typer.Option("--encrypted", help="Ask for a passphrase, and need it to sign.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key for a repository that is not there yet.

    The first `publish` with this key folder takes all keys that are in it, and makes those that
    lack. Where there is a repository already, `replace` makes the new key itself.
    """
    try:
        key = _new(keys, _kind(role), encrypted)
    except NoyauError as error:
        fail(error)
    if as_json:
        print(json.dumps({"id": key.id, "role": key.role, "file": str(key.path)}, indent=2))
    else:
        print(key.id)
        errors.print(f"It is in {key.path}, and only you can read it.", highlight=False)


def _new(folder: Path, role: KeyRole, encrypted: bool) -> SigningKey:
    from actors.storage.trust.keys import KeyFolder

    passphrase = None
    if encrypted:
        passphrase = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    return KeyFolder(folder).new(role, passphrase)


def _kind(role: str) -> KeyRole:
    if role == "root":
        return "root"
    if role == "online":
        return "online"
    raise InvalidRequest(f"a key is for root or for online, not for {role!r}")


@keys.command("list")
def list_(out: Out, keys: Keys, as_json: AsJson = False) -> None:
    """Show which keys count for what, and until when what they signed is believed."""
    try:
        roles = _repository(out, keys).overview()
    except NoyauError as error:
        fail(error)
    if as_json:
        print(json.dumps({"roles": [_role(one) for one in roles]}, indent=2))
        return
    rows = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("role", "version", "expires", "keys", "file"):
        rows.add_column(name, no_wrap=name != "file")
    now = datetime.now(UTC)
    for one in roles:
        left = (one.expires - now) / timedelta(days=1)
        expires = f"{one.expires:%Y-%m-%d} ({left:.0f} days)" if left > 0 else "EXPIRED"
        for key in one.keys:
            rows.add_row(
                one.role, str(one.version), expires, key.id[:12], str(key.path or "not here")
            )
    Console().print(rows, markup=False)


def _role(one: RoleState) -> dict[str, object]:
    return {
        "role": one.role, "version": one.version, "expires": one.expires.isoformat(),
        "threshold": one.threshold,
        "keys": [{"id": key.id, "file": str(key.path) if key.path else None} for key in one.keys],
    }  # fmt: skip


@keys.command()
def renew(out: Out, keys: Keys, days: Days = 7.0) -> None:
    """Sign that nothing newer was published, for another while. To be run by a timer.

    In the last 30 days of the root, which lives for a year, it is signed anew as well, where its
    key is in the key folder. Where it is not, that is said; once the root has expired, this fails.
    """
    try:
        _renew(out, keys, days)
    except NoyauError as error:
        fail(error)


def _renew(out: Path, key_folder: Path, days: float) -> None:
    repository = _repository(out, key_folder, days)
    repository.renew()
    validity, renewed, problem = repository.validity(), None, ""
    if validity.root_is_due and validity.root_keys_are_here:
        try:
            renewed = _renew_root(repository, out, key_folder)
        except NoyauError as error:
            # What the timer is for is done: there are days left for this.
            problem = error.message
        validity = repository.validity()
    if validity.root_is_due and problem:
        _warn(f"The root could not be renewed: {problem}")
    _require_root(validity, out, key_folder)
    _tell_validity(validity, out)
    if renewed is not None:
        errors.print(
            f"The root was signed anew, until {validity.root.expires:%Y-%m-%d}; new clients need "
            f"{renewed}. Take its key back into the drawer.",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    elif validity.root_is_due:
        _warn(_root_ends(validity, out, key_folder))


def _renew_root(repository: Repository, out: Path, key_folder: Path) -> Path:
    """Sign the root anew; returns the file that new clients need."""
    from actors.storage.trust.root_file import RootFile

    root_file = RootFile(key_folder)
    root_file.check(repository.roots(), out)
    repository.renew_root()
    root_file.replace(repository.roots())
    return root_file.path


@keys.command()
def replace(
    out: Out,
    keys: Keys,
    role: Annotated[str, typer.Argument(metavar="root|online", help="Whose key is replaced.")],
    old: Annotated[
        str | None, typer.Option("--old", metavar="ID", help="Which, where there are several.")
    ] = None,
    encrypted: Annotated[
        bool, typer.Option("--encrypted", help="Ask for a passphrase for the new one.")
    ] = False,
) -> None:
    """Put a new key in an old one's place, also of one that was stolen. Needs the root key.

    Clients learn of it at their next look; nobody has to be told.
    """
    try:
        key = _replace(out, keys, role, old, encrypted)
    except NoyauError as error:
        fail(error)
    print(key.id)
    errors.print(
        f"It counts from now on. New clients need {keys / 'root.json'}; those that follow you "
        "already find it by themselves.",
        highlight=False, soft_wrap=True,
    )  # fmt: skip


def _replace(
    out: Path, key_folder: Path, role: str, old: str | None, encrypted: bool
) -> SigningKey:
    from actors.storage.trust.root_file import RootFile

    kind = _kind(role)
    repository, root_file = _repository(out, key_folder), RootFile(key_folder)
    # All that can be wrong, before there is a new key.
    retired = repository.key_to_replace(kind, old)
    root_file.check(repository.roots(), out)
    key = _new(key_folder, kind, encrypted)
    try:
        repository.rotate(kind, key, retired)
    except BaseException:
        if not repository.counts(key.id):
            key.path.unlink(missing_ok=True)
        raise
    root_file.replace(repository.roots())
    return key
