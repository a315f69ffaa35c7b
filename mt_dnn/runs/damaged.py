"""The message for a part of a checkpoint that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from data_utils.errors import UserError, shortened


@contextmanager
def of_checkpoint(part: Path) -> Iterator[None]:
    """Lets an error of the block name the part of a checkpoint that it reads, and the remedy for checkpoints."""
    try:
        yield
    except UserError as error:
        raise damaged(part, error) from None


def damaged(file: Path, error: Exception) -> UserError:
    """Makes the error for a file of a checkpoint that cannot be read."""
    reason = shortened(str(error).split("\n")[0])
    if isinstance(error, UserError):
        reason = shortened(str(error).split("; ")[0])  # its remedy is for an encoder that the user has named
    elif isinstance(error, ValidationError):
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    elif isinstance(error, KeyError):
        reason = f"no key {reason}"
    return UserError(
        f"{file}: damaged or missing ({reason}); delete this checkpoint folder to resume from an earlier one"
    )
