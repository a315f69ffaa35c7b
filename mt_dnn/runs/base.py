"""The encoder that the adapter of a run belongs to. It never changes, so the run folder holds it once, in ``base/``."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from data_utils.errors import NotSaved, UserError, refused, system_error
from data_utils.files import flush
from mt_dnn.encoders.adapters import base_tensors
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.runs.checkpoint import flush_tree

FOLDER, CHECKPOINTS = "base", "checkpoints"


def write_base(run: Path, encoder: Encoder) -> None:
    """Writes the weights below the adapter into the run folder, in Hugging Face format. Without an adapter: nothing.

    The folder is complete or absent. One that is there already is replaced.

    Raises:
        NotSaved: the disk is full or not writable.
    """
    if encoder.adapter is None:
        return
    folder, temporary = run / FOLDER, run / f".{FOLDER}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        encoder.save(temporary, base_tensors(encoder))
        flush_tree(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
        flush(run)
    except Exception as error:
        if (failure := system_error(error)) is None:
            raise
        raise refused(folder, "not written", failure, kept="the run has not begun", kind=NotSaved) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def forget_base(run: Path) -> None:
    """Removes the files that ``write_base`` has written, and the folder if nothing else is in it."""
    folder = run / FOLDER
    if not folder.is_dir():
        return
    for file in (folder / "config.json", *folder.glob("model*.safetensors"), folder / "model.safetensors.index.json"):
        file.unlink(missing_ok=True)
    with suppress(OSError):  # a file of the user is there
        folder.rmdir()


def base_of(checkpoint: Path) -> Path:
    """The folder with the encoder that the adapter of a checkpoint belongs to.

    Raises:
        UserError: it is not there.
    """
    folder = checkpoint.absolute()
    while folder.is_symlink():  # ``best`` is a link into ``checkpoints``, which may itself be a link to another disk
        folder = folder.parent / folder.readlink()
    # A copy of a run folder may have only ``best``, as a folder.
    run = folder.parent.parent if folder.parent.name == CHECKPOINTS else folder.parent
    if not (run / FOLDER).is_dir():
        raise UserError(
            f"{checkpoint}: holds an adapter, and the encoder below it is missing; put the folder {FOLDER} back into "
            f"{run}"
        )
    return run / FOLDER
