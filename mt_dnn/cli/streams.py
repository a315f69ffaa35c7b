"""The standard streams of a command: they may be closed before it starts, or stand for a disk that is full."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOBase
from typing import Any

from data_utils.errors import UserError


class Closed(TextIOBase):
    """Takes the place of an output that was closed before the command started. What is printed goes nowhere."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        return len(text)


def fill_closed() -> None:
    """Opens /dev/null for each standard stream that is closed.

    Otherwise the next file that is opened would get its number. Standard input stays None, so that its readers know.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free
    if sys.stdout is None:
        sys.stdout = Closed()
    if sys.stderr is None:
        sys.stderr = Closed()


def check_open() -> None:
    """Raises UserError if standard output was closed. For commands that would compute long for nothing."""
    if isinstance(sys.stdout, Closed):
        raise UserError("standard output: is closed, so the results would be lost; start the command without >&-")


def failure_of(stream: Any) -> OSError | None:
    """Writes what an output still holds. If it cannot be written, returns the error and sends the rest to /dev/null.

    Otherwise Python would try again at its end, and give the command another exit code.
    """
    try:
        stream.flush()
    except OSError as error:
        discard(stream)
        return error
    return None


def discard(stream: Any) -> None:
    """Sends to /dev/null what an output still holds and what is printed from now on."""
    with suppress(AttributeError, OSError):  # the stream of a notebook has no file
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
