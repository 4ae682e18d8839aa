"""From ``package.module:Class`` in the settings to the class itself."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from protocol.errors import InvalidSettings, MissingDependency

if TYPE_CHECKING:
    from actors.kernel.actor import Actor


def load_actor(class_path: str) -> type[Actor]:
    """Import the actor class.

    Raises `MissingDependency` when a library it needs is not installed, and `InvalidSettings`
    when there is no such class or it is no actor.
    """
    from actors.kernel.actor import Actor

    module_name, _, class_name = class_path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # The dots, as `torch` is no part of `torch_engine.actor`.
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise InvalidSettings(
                f"actor class {class_path}: there is no module {error.name}; write `class` as "
                "package.module:Class"
            ) from None
        raise MissingDependency(
            f'actor class {class_path} needs the library {error.name}: pip install "noyau[all]"'
        ) from None
    except (ImportError, OSError) as error:
        # A native library that does not load: of another machine, or with one of its own missing.
        raise MissingDependency(
            f"actor class {class_path} cannot be imported: {error}; install its libraries anew: "
            'pip install --force-reinstall "noyau[all]"'
        ) from None
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Actor)):
        raise InvalidSettings(
            f"actor class {class_path}: {class_name} is no Actor of {module_name}"
        )
    return found
