"""``noyau models``: which language model answers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

from actors.engine.model_file import ModelFile, check_size, check_usable, read_model
from actors.storage.manifest import Manifest, load_manifest
from configs import Settings, load_settings
from configs.chosen_model import ChosenModel, read_choice, write_choice
from configs.machine import this_machine
from noyau.here import check_here
from noyau.options import AsJson, Assignments, Config, RunFolder
from noyau.switching import Running, find_running, switch
from noyau.terminal import errors, fail, run
from protocol.errors import NoyauError

GGUF = ".gguf"

models = typer.Typer(
    help="The language model that answers: the default one, or a GGUF file of your own.\n\n"
    "How much context, how many slots and threads it gets are settings of the engines, and how "
    "words are chosen are settings of the orchestrator: see docs/models.md.",
    no_args_is_help=True,
)


@dataclass(slots=True)
class Listed:
    """One model that there is, or was."""

    name: str
    path: str
    bytes: int | None
    """None: the file is not there."""
    chosen: bool
    used_by: list[str] = field(default_factory=list)
    """Engines that have it loaded."""


@models.command("list")
def list_(
    run_folder: RunFolder = None,
    config: Config = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Show the models that noyau knows: the manifest's, and those that you chose."""
    run(lambda: _list(run_folder, config, assignments or [], as_json))


async def _list(
    run_folder: RunFolder, config: Path | None, assignments: list[str], as_json: bool
) -> int:
    settings = load_settings(file=config, assignments=assignments)
    running = await _find_running(run_folder, settings)
    folder = running.data_folder if running else settings.data.folder
    found = _known(_manifest(settings), folder, read_choice(folder), running)
    if as_json:
        print(json.dumps({"models": [asdict(one) for one in found]}, indent=2))
        return 0
    rows = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("", "model", "size", "used by", "file"):
        rows.add_column(name, justify="right" if name == "size" else "left", no_wrap=name != "file")
    for one in found:
        size = "not there" if one.bytes is None else f"{one.bytes / 1e6:,.0f} MB"
        rows.add_row("→" if one.chosen else "", one.name, size, ", ".join(one.used_by), one.path)
    Console().print(rows, markup=False)
    errors.print(
        "→ is what answers. Another one: noyau models use FILE.gguf", style="dim", markup=False
    )
    return 0


async def _find_running(run_folder: Path | None, settings: Settings) -> Running | None:
    check_here(run_folder)
    return await find_running(run_folder or settings.run.folder)


def _manifest(settings: Settings) -> Manifest:
    storage = settings.actors.get("storage")
    path = storage.settings.get("manifest") if storage else None
    return load_manifest(Path(path) if path else None)


def _known(
    manifest: Manifest, folder: Path, choice: ChosenModel, running: Running | None
) -> list[Listed]:
    used = running.models if running else {}
    found = []
    for asset in manifest.assets:
        if asset.path.endswith(GGUF):
            path = folder / "assets" / asset.path
            is_default = asset.name == manifest.default_model
            found.append(
                Listed(
                    asset.name, str(path), _size(path), is_default and choice.path is None,
                    [engine for engine, model in used.items() if model == asset.sha256],
                )
            )  # fmt: skip
    for path in choice.known:
        found.append(
            Listed(
                path.stem, str(path), _size(path), path == choice.path,
                [engine for engine, model in used.items() if model.startswith(f"{path}:")],
            )
        )  # fmt: skip
    return found


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


@models.command()
def use(
    file: Annotated[Path, typer.Argument(metavar="FILE.gguf", help="An instruction-tuned model.")],
    run_folder: RunFolder = None,
    config: Config = None,
    assignments: Assignments = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds that loading it may take.")
    ] = 600.0,
) -> None:
    """Answer with a model of your own from now on.

    The file is looked at first: whether it is a complete GGUF file with a chat template, and
    whether there is memory for it. Engines that run are then restarted with it, one after the
    other; an answer that is being made goes on with the new one. When it cannot be loaded, what was
    before is back.
    """
    run(lambda: _use(run_folder, config, assignments or [], file, timeout))


async def _use(
    run_folder: RunFolder, config: Path | None, assignments: list[str], file: Path, timeout_s: float
) -> int:
    settings = load_settings(file=config, assignments=assignments)
    running = await _find_running(run_folder, settings)
    path = file.expanduser().resolve()
    with errors.status(f"reading {path.name}"):
        model = _checked(path, settings, running)
    errors.print(
        f"{model.name}: {model.architecture}, {model.size_bytes / 1e6:,.0f} MB, trained on "
        f"{model.trained_context_tokens or 'an unknown number of'} tokens of context.",
        markup=False,
    )
    return await _choose(path, settings, running, timeout_s)


def _checked(path: Path, settings: Settings, running: Running | None) -> ModelFile:
    check_size(path, this_machine().memory_bytes)
    model = read_model(path)
    engine = settings.actors.get("cpu_engine")
    context = int(engine.settings.get("context_tokens", 0)) if engine else 0
    available = psutil.virtual_memory().available
    if running is not None:
        # What the engines have now is free again when they are restarted.
        context, available = running.context_tokens or context, available + running.engine_bytes
    check_usable(model, context, available)
    return model


@models.command()
def default(
    run_folder: RunFolder = None,
    config: Config = None,
    assignments: Assignments = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds that loading it may take.")
    ] = 600.0,
) -> None:
    """Go back to the default model."""
    run(lambda: _default(run_folder, config, assignments or [], timeout))


async def _default(
    run_folder: RunFolder, config: Path | None, assignments: list[str], timeout_s: float
) -> int:
    settings = load_settings(file=config, assignments=assignments)
    running = await _find_running(run_folder, settings)
    return await _choose(None, settings, running, timeout_s)


async def _choose(
    path: Path | None, settings: Settings, running: Running | None, timeout_s: float
) -> int:
    """Keep the choice and have it loaded; what was before is back when that fails."""
    folder = running.data_folder if running else settings.data.folder
    try:
        before = read_choice(folder)
    except NoyauError:
        # A damaged one is mended by this.
        before = ChosenModel()
    write_choice(folder, before.using(path))
    if running is None:
        errors.print("The next `noyau up` loads it.", markup=False)
        return 0
    try:
        for engine in running.engines:
            with errors.status(f"{engine} is loading it"):
                await switch(running, engine, path, timeout_s)
            errors.print(f"{engine} answers with {path.stem if path else 'the default model'}.")
    except NoyauError as error:
        write_choice(folder, before)
        with errors.status("going back to the model before"):
            for engine in running.engines:
                await switch(running, engine, before.path, timeout_s)
        errors.print("The model before is back.", markup=False)
        fail(error)
    return 0
