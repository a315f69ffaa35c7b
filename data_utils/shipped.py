"""Files of ``task_defs/`` and ``experiments/`` that come with the toolkit, found from every folder."""

from __future__ import annotations

from pathlib import Path

FOLDERS = ("task_defs", "experiments")
PACKAGED = Path(__file__).with_name("_shipped")  # setup.py puts the folders here in a wheel


def shipped(path: Path | str) -> Path:
    """Returns the file that comes with the toolkit, for a path such as ``task_defs/glue.yml``. It may not exist."""
    return (PACKAGED if PACKAGED.is_dir() else PACKAGED.parents[1]) / path


def of_toolkit(path: Path | str) -> bool:
    """Whether a path is relative and begins with the name of one of these folders."""
    return Path(path).parts[:1] in [(name,) for name in FOLDERS]


def find(path: Path | str) -> Path:
    """Returns the file that a user means by a path: the file itself, or one that comes with the toolkit.

    A file that exists wins. Otherwise a relative path that begins with ``task_defs/`` or ``experiments/`` is looked for
    among the files of the toolkit. If it is not there either, the path is returned as it was given.
    """
    path = Path(path)
    if path.exists() or not of_toolkit(path):
        return path
    found = shipped(path)
    return found if found.is_file() else path


def notices(*paths: Path | str) -> list[str]:
    """Says where a file is that is read from the toolkit. Of paths to the user's own files nothing is said."""
    return [
        f"{path} is not in this folder, so that of mt-dnn is read: {found}"
        for path in paths
        if (found := find(path)) != Path(path)
    ]
