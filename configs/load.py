"""Gathers the settings from their places and gives back one checked whole, or all the errors.

::

    default.toml  <  file  <  NOYAU_… variables  <  --set NAME=VALUE      (the right one wins)

A variable nests with double underscores, ``NOYAU_ACTORS__CPU_ENGINE__SETTINGS__THREADS=2``, and
reaches lower-case names only. Every variable that begins with ``NOYAU_`` is taken as a setting.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from configs.answering import QuerySettings
from configs.checks import ActorView, check_actors, check_numbers, check_ports
from configs.describe import default_tree
from configs.fields import default_data_folder
from configs.layers import (
    FILE_VARIABLE,
    Layer,
    SettingProblem,
    Tree,
    from_assignments,
    from_variables,
    merge,
    merge_layers,
    parse_file,
)
from configs.report import Reporter
from configs.schema import Settings
from configs.sections import HangSettings, HealthSettings, RestartSettings, SupervisorSettings
from protocol.endpoints import xdg_run_folder
from protocol.errors import InvalidSettings


def load_settings(
    *,
    file: Path | None = None,
    assignments: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings from `default.toml`, a file, the environment and ``--set`` assignments.

    ``file`` is a TOML file that need only hold what differs from the defaults; without it,
    ``NOYAU_CONFIG`` may name one. ``assignments`` are texts like ``query.deadline_s=60``.
    ``environ`` stands for the process's environment. In variables and assignments a value is read
    as TOML where it is valid TOML (2, true, ["a"], "2") and taken as plain text where it is not.

    Raises ``InvalidSettings`` with everything that is wrong at once: a line each in the message,
    and ``details["errors"]`` as a list of ``{"place", "setting", "problem", "remedy"}``.
    """
    environ = os.environ if environ is None else environ
    from_file, file_problems = _from_file(file, environ)
    variables, variable_problems = from_variables(environ)
    assigned, assignment_problems = from_assignments(assignments)
    layers = [_defaults(environ), *from_file, *variables, *assigned]
    settings, problems = _validate(layers)
    problems = [*file_problems, *variable_problems, *assignment_problems, *problems]
    if settings is None or problems:
        raise _invalid(problems)
    return settings


def _defaults(environ: Mapping[str, str]) -> Layer:
    # The schema's own defaults for folders look at the process's environment, and the caller may
    # have given another one; so they are a value of the lowest layer here.
    folders = {
        "run": {"folder": str(xdg_run_folder(environ))},
        "data": {"folder": str(default_data_folder(environ))},
    }
    return Layer("default", merge(folders, default_tree()))


def _from_file(
    file: Path | None, environ: Mapping[str, str]
) -> tuple[list[Layer], list[SettingProblem]]:
    named = environ.get(FILE_VARIABLE)
    path = Path(named).expanduser() if file is None and named else file
    if path is None:
        return [], []
    place = f"configs file {path}"
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        reason = error.strerror or str(error)
        problem, remedy = f"cannot be read: {reason}", "give the path of a readable TOML file"
    except UnicodeDecodeError as error:
        problem, remedy = f"is not UTF-8 text (byte {error.start})", "save it as UTF-8"
    else:
        values, problems = parse_file(text, place)
        return [Layer(place, values)], problems
    if file is None:
        remedy += f"; {FILE_VARIABLE} names this one"
    return [], [SettingProblem(place, "", problem, remedy)]


def _validate(layers: Sequence[Layer]) -> tuple[Settings | None, list[SettingProblem]]:
    tree = merge_layers(layers)
    reporter = Reporter(layers, tree)
    try:
        return Settings.model_validate(tree), []
    except ValidationError as error:
        problems = reporter.problems(error)
    # The schema looks for contradictions last, when all else is right; here it is done in any case.
    actors, engines = _lenient(tree)
    remote = tree.get("remote")
    listen = remote.get("listen") if isinstance(remote, Mapping) else None
    found = [
        *check_actors(actors, engines), *check_numbers(_numbers(tree)),
        *check_ports(actors, listen),
    ]  # fmt: skip
    return None, [*problems, *(reporter.cross_problem(one) for one in found)]


def _lenient(tree: Tree) -> tuple[dict[str, ActorView], list[str]]:
    """What can be read of the actors and engines in a tree that is wrong somewhere."""
    actors = tree.get("actors")
    views = {}
    for name, entry in actors.items() if isinstance(actors, Mapping) else ():
        entry = entry if isinstance(entry, Mapping) else {}
        views[name] = ActorView(entry.get("enabled") is not False, _texts(entry.get("needs")))
    query = tree.get("query")
    engines = query.get("engines") if isinstance(query, Mapping) else None
    return views, QuerySettings().engines if engines is None else _texts(engines)


def _numbers(tree: Tree) -> Tree:
    # A default that is missing in the tree is what a given number may contradict.
    defaults = {
        "supervisor": SupervisorSettings().model_dump(),
        "restart": RestartSettings().model_dump(),
        "health": HealthSettings().model_dump(),
        "hang": HangSettings().model_dump(),
    }
    return merge(defaults, tree)


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _invalid(problems: Sequence[SettingProblem]) -> InvalidSettings:
    count = "1 setting is wrong" if len(problems) == 1 else f"{len(problems)} settings are wrong"
    message = "\n".join([f"{count}:", *(f"  {problem.line()}" for problem in problems)])
    return InvalidSettings(message, errors=[asdict(problem) for problem in problems])
