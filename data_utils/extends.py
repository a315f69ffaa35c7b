"""Run files and task files that extend another file: ``extends: other.yml``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data_utils.errors import UserError
from data_utils.shipped import find, of_toolkit

KEY = "extends"
SCHEMA = {
    "type": "string",
    "description": "another file of this kind, relative to this one; its keys hold unless this file replaces them",
}
Layer = tuple[Path, dict[Any, Any]]


def layers(path: Path, content: Mapping[Any, Any], read: Callable[[Path], Mapping[Any, Any]]) -> list[Layer]:
    """Returns a file and all files below it, the lowest first. Each is its path and its content without ``extends``.

    A file is looked for from the folder of the file that names it. If it is not there and its path begins with
    ``task_defs/`` or ``experiments/``, then as ``data_utils.shipped.find`` does.

    Args:
        content: what the file at ``path`` says.
        read: gives the content of another file.

    Raises:
        UserError: a file does not exist, extends itself, or ``extends`` is no path.
    """
    found: list[Layer] = []
    while True:
        keys = dict(content)
        given = keys.pop(KEY, None)
        found.insert(0, (path, keys))
        if given is None:
            return found
        if not isinstance(given, str) or not given:
            raise UserError(f"{path}: {KEY}: write the path of a file, such as '{KEY}: base.yml' (got {given!r})")
        below = path.parent / Path(given).expanduser()
        if of_toolkit(given) and not below.exists() and find(given).exists():
            below = find(given)
        if not below.is_file():
            raise UserError(f"{path}: {KEY}: {below}: no such file; its path counts from the folder of {path.name}")
        if below.resolve() in [known.resolve() for known, _ in found]:
            chain = " extends ".join(str(known) for known, _ in [*reversed(found), (below, {})])
            raise UserError(f"{path}: {KEY}: {chain}, in a circle; remove one of them")
        path, content = below, read(below)


def merged(below: Mapping[Any, Any], above: Mapping[Any, Any]) -> dict[Any, Any]:
    """Merges mappings in mappings too. Every other value above, also a list and null, replaces the one below."""
    result = dict(below)
    for key, value in above.items():
        known = result.get(key)
        result[key] = merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return result
