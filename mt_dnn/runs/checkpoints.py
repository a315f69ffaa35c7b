"""The checkpoints of a run folder: which is the last, which is the best, and which are removed.

Only what this toolkit has written is removed: folders named ``checkpoints/step-00000120`` in which every file was
written by ``save_checkpoint``, and ``.step-00000120.tmp`` or ``.old``, which a cut off save or removal leaves behind.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from data_utils.errors import UserError
from mt_dnn.distributed.ranks import say
from mt_dnn.runs.base import forget_base
from mt_dnn.runs.checkpoint import CONTENT, checkpoint_path, files_of, read_state

Content = TypeVar("Content")
BEST = "best"
NAME = re.compile(r"step-(\d{8,})")
LEFTOVER = re.compile(r"\.step-\d{8,}\.(tmp|old)")
LINK = re.compile(r"checkpoints/step-\d{8,}")


def checkpoints(run: Path) -> dict[int, Path]:
    """The checkpoints of a run by step, from the first to the last. Other files and folders are left out."""
    found = ((NAME.fullmatch(path.name), path) for path in _entries(run))
    return dict(sorted((int(match[1]), path) for match, path in found if match is not None and path.is_dir()))


def last_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint of a run, or None."""
    return max(checkpoints(run).items(), default=(0, None))[1]


def prune(run: Path, keep: Iterable[int]) -> None:
    """Removes all checkpoints except those of the steps ``keep``. Also removes the rest of saves that were cut off.

    What the toolkit did not write stays. What cannot be removed is said and stays.
    """
    kept = {checkpoint_path(run, step) for step in keep}
    leftovers = [path for path in _entries(run) if LEFTOVER.fullmatch(path.name) and path.is_dir()]
    outdated = [path for path in checkpoints(run).values() if path not in kept and _written_by_us(path)]
    for path in (*leftovers, *outdated):
        if path.is_symlink():
            continue
        left = path
        try:
            # Renamed first, so that a checkpoint that is half removed does not look like a complete one.
            left = path if path in leftovers else path.rename(path.with_name(f".{path.name}.old"))
            shutil.rmtree(left)
        except OSError as error:
            say(f"{left}: cannot be removed ({error.strerror or error}); delete it by hand")


def forget_checkpoints(run: Path) -> None:
    """Removes all checkpoints, as ``prune`` does, the link to the best one, and the encoder below their adapters."""
    prune(run, [])
    if not checkpoints(run):
        forget_base(run)
    if (run / BEST).is_symlink():
        (run / BEST).unlink()


def mark_best(run: Path, step: int) -> None:
    """Lets the link ``<run>/best`` point at the checkpoint of this step.

    The link is for people: ``best_checkpoint`` does not read it. So if it cannot be written, this is said and the run
    goes on.
    """
    link, temporary = run / BEST, run / f".{BEST}.tmp"
    target = checkpoint_path(run, step).relative_to(run)
    written_by_us = link.is_symlink() and LINK.fullmatch(str(link.readlink()))
    if link.exists() and not written_by_us:
        say(f"{link}: was not written by this run, so it stays; the best checkpoint is {target}")
        return
    try:
        if temporary.is_symlink():
            temporary.unlink()
        temporary.symlink_to(target, target_is_directory=True)
        temporary.replace(link)
    except OSError as error:
        with suppress(OSError):
            if temporary.is_symlink():
                temporary.unlink()
        say(f"{link}: cannot be written ({error.strerror or error}); the best checkpoint is {target}")


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that a user means: the folder itself, or the best checkpoint of a run folder.

    Raises:
        UserError: the folder is no checkpoint and holds none, or the best one is missing.
    """
    if (path / "heads.safetensors").exists():
        return path
    if (last := last_checkpoint(path)) is not None:
        return best_checkpoint(path, last)
    if (path / BEST / "heads.safetensors").exists():  # a copy of a run folder without its checkpoints
        return (path / BEST).resolve()
    raise UserError(f"{path}: no checkpoint here; give a run folder or one of its checkpoints/step-… folders")


def read_checkpoint(path: Path, read: Callable[[Path], Content]) -> Content:
    """Returns what ``read`` makes of the checkpoint that a user means, see ``find_checkpoint``.

    A run that trains meanwhile may remove a checkpoint while it is read. Then a newer one is read.
    """
    while True:
        before = set(checkpoints(path))
        try:
            return read(find_checkpoint(path))
        except (UserError, OSError):
            if before <= set(checkpoints(path)):  # none was removed
                raise


def best_checkpoint(run: Path, last: Path) -> Path:
    """The best checkpoint of a run, as the state of its last checkpoint says. Without a best one, the last one.

    The link ``best`` may be older than the last checkpoint, because they are not written in one step. It is read only
    if nothing else is there, because the folder ``trainer`` was deleted.

    Raises:
        UserError: the best checkpoint is missing, or nothing says which one it is.
    """
    if (last / "trainer").exists():
        step = read_state(last)["progress"]["best_step"]
        found = last if step is None else checkpoint_path(run, step)
    elif (run / BEST).is_symlink():
        found = (run / BEST).resolve()
    elif len(checkpoints(run)) == 1:
        found = last
    else:
        raise UserError(f"{run}: nothing says which checkpoint is the best one; give one of them, such as {last}")
    if not found.is_dir():
        raise UserError(
            f"{run}: its best checkpoint {found.name} is missing; put it back, or give another one, such as {last}"
        )
    return found


def _entries(run: Path) -> Iterator[Path]:
    folder = run / "checkpoints"
    return folder.iterdir() if folder.is_dir() else iter(())


def _written_by_us(checkpoint: Path) -> bool:
    """Whether ``save_checkpoint`` has written every file in the folder.

    The state of a checkpoint lists its files. An older checkpoint has no such list; then names at the top have to do.
    """
    try:
        listed = read_state(checkpoint).get("files")
    except UserError:
        return False
    found = files_of(checkpoint)
    if isinstance(listed, list):
        return set(found) <= {*listed, "trainer/state.json"}
    return {Path(name).parts[0] for name in found} <= CONTENT
