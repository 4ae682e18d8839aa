"""The verbs of ``noyau assets`` for who uses files; those for who publishes them are beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from actors.storage.manifest import Asset
from actors.storage.telling import as_checked, as_listed, as_updated
from noyau.assets.bar import progress_bar
from noyau.assets.doing import (
    Place,
    ask_storage,
    do_here,
    guardian_of,
    running,
    tell_of_change,
)
from noyau.assets.publishing import keys, publish
from noyau.options import AsJson, Assignments, Config, RunFolder
from noyau.terminal import EXIT_ERROR, errors, run
from noyau.times import when
from protocol.messages.storage import (
    CheckedAsset,
    ListAssets,
    RepairAssets,
    UpdateAssets,
    VerifyAssets,
)

assets = typer.Typer(
    help="Model files and others: what is here, whether every byte of it is right, and its "
    "updates.\n\n"
    "They work with and without a running noyau; one that runs does the work itself, and "
    "[bold]noyau events[/] shows it. See docs/assets.md.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
assets.add_typer(keys, name="keys")
assets.command()(publish)

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]…", help="As `noyau assets list` shows. None: all that are here."
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="As `noyau assets list` shows.")]


@assets.command("list")
def list_(
    run_folder: RunFolder = None,
    config: Config = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Show every file that noyau knows: its version, its size, and whether it is here.

    A look, and no reading: whether every byte is right is what `verify` tells.
    """
    run(lambda: _list(Place(run_folder, config, assignments or []), as_json))


async def _list(place: Place, as_json: bool) -> int:
    async with running(place) as client:
        if client is not None:
            found = await client.ask(ListAssets(), timeout_s=30)
        else:
            guardian = await guardian_of(place)
            found = as_listed(guardian, lambda _: [])
    if as_json:
        print(found.model_dump_json(indent=2))
        return 0
    rows = _rows("asset", "version", "size", "is", "used by", "description")
    for one in found.assets:
        marks = [
            "here" if one.present else "missing" if one.required else "not here",
            *(["pinned"] if one.pinned else []),
        ]
        rows.add_row(
            one.asset, one.version, _mb(one.size), ", ".join(marks), ", ".join(one.used_by),
            one.description,
        )  # fmt: skip
    Console().print(rows, markup=False)
    for problem in found.problems:
        errors.print(problem, style="yellow", markup=False, soft_wrap=True)
    return 0


@assets.command()
def verify(
    names: Names = None,
    run_folder: RunFolder = None,
    config: Config = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Read every byte and compare it with the manifest. Nothing is changed.

    Exit code 1 where something is damaged or missing.
    """
    run(lambda: _check(Place(run_folder, config, assignments or []), names or [], as_json, False))


@assets.command()
def repair(
    names: Names = None,
    run_folder: RunFolder = None,
    config: Config = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Have files right: read every byte, mend what is damaged, fetch what is missing.

    Of a damaged file no more is fetched than the pieces that are wrong, where its source gives
    pieces. An engine that has it loaded is restarted with the right one.
    """
    run(lambda: _check(Place(run_folder, config, assignments or []), names or [], as_json, True))


async def _check(place: Place, names: list[str], as_json: bool, mend: bool) -> int:
    with progress_bar(quiet=as_json) as bar:
        async with running(place) as client:
            if client is not None:
                message = RepairAssets(names=names) if mend else VerifyAssets(names=names)
                found = await ask_storage(client, message, bar)
            else:
                guardian = await guardian_of(place)
                work = guardian.repair if mend else guardian.verify
                found = as_checked(await do_here(lambda watch: work(names, watch), bar))
    wrong = [one for one in found.assets if one.state != "whole"]
    if as_json:
        print(found.model_dump_json(indent=2))
        return EXIT_ERROR if wrong else 0
    rows = _rows("asset", "is", "size", "why")
    for one in found.assets:
        rows.add_row(one.asset, one.state, _mb(one.size), _why(one))
    Console().print(rows if found.assets else "No file is here yet.", markup=False)
    if wrong:
        errors.print(
            f"Have them right again: noyau assets repair {' '.join(one.asset for one in wrong)}",
            highlight=False,
        )
    return EXIT_ERROR if wrong else 0


def _why(one: CheckedAsset) -> str:
    if not one.damaged_chunks:
        return one.reason
    return f"{len(one.damaged_chunks)} of its {one.all_chunks} pieces are wrong"


@assets.command()
def update(
    check: Annotated[
        bool, typer.Option("--check", help="Say what is new, and fetch nothing.")
    ] = False,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Fetch it, and use it at the next update.")
    ] = False,
    run_folder: RunFolder = None,
    config: Config = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Fetch what the publisher changed, and use it.

    Of each file no more is fetched than what is nowhere in the files that are here. Nothing changes
    before all of it is here, whole and proved; the version before is kept until the new one was
    loaded. Who the publisher is, the settings actors.storage.settings.repository and
    repository_root say.
    """
    run(lambda: _update(Place(run_folder, config, assignments or []), check, fetch, as_json))


async def _update(place: Place, check: bool, fetch: bool, as_json: bool) -> int:
    with progress_bar(quiet=as_json) as bar:
        async with running(place) as client:
            if client is not None:
                message = UpdateAssets(check_only=check, fetch_only=fetch)
                done = await ask_storage(client, message, bar)
            else:
                guardian = await guardian_of(place)
                done = as_updated(
                    await do_here(
                        lambda watch: guardian.update(watch, check_only=check, fetch_only=fetch),
                        bar,
                    )
                )
    if as_json:
        print(done.model_dump_json(indent=2))
        return 0
    if not done.changes:
        errors.print(f"Nothing changed: manifest {done.version}.", highlight=False)
        return 0
    rows = _rows("asset", "before", "after", "size", "what is new")
    for one in done.changes:
        rows.add_row(one.asset, one.before or "–", one.after, _mb(one.size), one.changelog)
    Console().print(rows, markup=False)
    said = "in use" if done.applied else "to be had" if check else "here, and not yet in use"
    fetched = "" if check else f"; {_mb(done.fetched_bytes)} were fetched"
    errors.print(f"Manifest {done.version} is {said}{fetched}.", highlight=False)
    return 0


@assets.command()
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of your own.")],
    name: Annotated[
        str, typer.Option("--name", "-n", help="What settings call it. Without: the file's name.")
    ] = "",
    licence: Annotated[str, typer.Option("--licence", help="An SPDX expression.")] = "",
    description: Annotated[str, typer.Option("--description", help="For `list`.")] = "",
    run_folder: RunFolder = None,
    config: Config = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Take a file of your own in: copied, hashed, and from then on guarded as any other.

    An engine loads it by its name: --set actors.cpu_engine.settings.model=NAME
    """
    place = Place(run_folder, config, assignments or [])
    run(lambda: _add(place, file, name, licence, description, as_json))


async def _add(
    place: Place, file: Path, name: str, licence: str, description: str, as_json: bool
) -> int:
    guardian = await guardian_of(place)
    with progress_bar(quiet=as_json) as bar:
        asset = await do_here(
            lambda watch: guardian.add(file, name, licence, description, watch), bar
        )
    await tell_of_change(place)
    return _say(
        asset, as_json,
        f"{asset.name} is here. An engine loads it with\n"
        f"  --set actors.cpu_engine.settings.model={asset.name}",
    )  # fmt: skip


@assets.command()
def remove(
    name: Name,
    run_folder: RunFolder = None,
    config: Config = None,
    assignments: Assignments = None,
) -> None:
    """Take a file that you added out again. The file that it was copied from stays."""
    run(lambda: _remove(Place(run_folder, config, assignments or []), name))


async def _remove(place: Place, name: str) -> int:
    guardian = await guardian_of(place)
    removed = await do_here(lambda watch: guardian.remove(name, watch.cancelled))
    await tell_of_change(place)
    errors.print(f"{removed.name} is removed.", highlight=False, markup=False)
    return 0


@assets.command()
def pin(
    name: Name,
    undo: Annotated[bool, typer.Option("--undo", help="Let it be updated again.")] = False,
    run_folder: RunFolder = None,
    config: Config = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Keep a file at the version in use, whatever updates bring.

    With --undo the version that updates have brought meanwhile is fetched first, and used; while it
    cannot be had the file stays pinned.
    """
    run(lambda: _pin(Place(run_folder, config, assignments or []), name, undo, as_json))


async def _pin(place: Place, name: str, undo: bool, as_json: bool) -> int:
    guardian = await guardian_of(place)
    if undo:
        with progress_bar(quiet=as_json) as bar:
            asset = await do_here(lambda watch: guardian.unpin(name, watch), bar)
    else:
        asset = await do_here(lambda watch: guardian.pin(name, watch.cancelled))
    await tell_of_change(place)
    said = (
        f"{asset.name} takes part in updates again.{_in_use(asset)}"
        if undo
        else f"{asset.name} stays as it is{_in_version(asset)}. Let it be updated again: "
        f"noyau assets pin {asset.name} --undo"
    )
    return _say(asset, as_json, said)


@assets.command()
def rollback(
    name: Name,
    run_folder: RunFolder = None,
    config: Config = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Go back to the version that was in use before the last update, and stay there (see `pin`)."""
    run(lambda: _rollback(Place(run_folder, config, assignments or []), name, as_json))


async def _rollback(place: Place, name: str, as_json: bool) -> int:
    guardian = await guardian_of(place)
    with progress_bar(quiet=as_json) as bar:
        asset = await do_here(lambda watch: guardian.rollback(name, watch), bar)
    await tell_of_change(place)
    return _say(
        asset, as_json,
        f"{asset.name} is as it was before{_in_version(asset)}, and stays so. Let it be updated "
        f"again: noyau assets pin {asset.name} --undo",
    )  # fmt: skip


def _in_use(asset: Asset) -> str:
    return f" In use is version {asset.version}." if asset.version else ""


def _in_version(asset: Asset) -> str:
    return f" (version {asset.version})" if asset.version else ""


@assets.command()
def history(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="None: of all.")] = None,
    run_folder: RunFolder = None,
    config: Config = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Show what became of the files: installed, repaired, updated, rolled back."""
    run(lambda: _history(Place(run_folder, config, assignments or []), name, as_json))


async def _history(place: Place, name: str | None, as_json: bool) -> int:
    lines = (await guardian_of(place)).history(name)
    if as_json:
        print(json.dumps({"history": [line.model_dump() for line in lines]}, indent=2))
        return 0
    rows = _rows("when", "asset", "what", "version", "fetched", "from", "sha256")
    for line in lines:
        rows.add_row(
            when(line.at), line.asset, line.what, line.version,
            _mb(line.fetched_bytes) if line.sources else "", ", ".join(line.sources),
            line.hash.partition("-")[2][:12],
        )  # fmt: skip
    Console().print(rows if lines else "Nothing has happened yet.", markup=False)
    return 0


@assets.command()
def gc(
    run_folder: RunFolder = None,
    config: Config = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Remove what nobody needs: earlier versions, files that the publisher has no more, quarantined
    ones, downloads that nothing wants. What waits for an update stays.

    After this there is no `rollback` to an earlier version.
    """
    run(lambda: _gc(Place(run_folder, config, assignments or []), as_json))


async def _gc(place: Place, as_json: bool) -> int:
    guardian = await guardian_of(place)
    freed = await do_here(lambda watch: guardian.collect(watch.cancelled))
    if as_json:
        print(json.dumps({"freed_bytes": freed}, indent=2))
    else:
        errors.print(f"{_mb(freed)} are free now.", highlight=False)
    return 0


def _say(asset: Asset, as_json: bool, words: str) -> int:
    if as_json:
        print(json.dumps(asset.model_dump(mode="json", by_alias=True), indent=2))
    else:
        errors.print(words, highlight=False, markup=False, soft_wrap=True)
    return 0


def _rows(*names: str) -> Table:
    rows = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        right = name in ("size", "fetched")
        rows.add_column(name, justify="right" if right else "left", no_wrap=name == "asset")
    return rows


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"
