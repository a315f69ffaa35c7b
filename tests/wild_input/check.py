"""Runs a command in this process, and says what is wrong with how it ends."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data_utils.errors import LONGEST
from mt_dnn.cli.main import main

PROCESSOR_S, WALL_S = 60, 600  # a command that takes longer hangs
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]")


@dataclass(frozen=True)
class Case:
    """A command and the files that it finds in its folder. Further files are where ``links`` point."""

    arguments: list[str]
    files: Mapping[str, bytes] = field(default_factory=dict)
    links: Mapping[str, Path] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Writes the files into a folder. What is at the end of a link is copied, so that it may be changed."""
        for name, source in self.links.items():
            shutil.copytree(source, folder / name, symlinks=True)
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


class Hangs(BaseException):
    """A command takes too long."""


def problem(case: Case, folder: Path) -> str:
    """Runs the command in an empty folder. Returns what is wrong with its end, or an empty text."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    case.write(folder)
    printed, errors = io.StringIO(), io.StringIO()
    code: object = 0
    with in_folder(folder), time_limit(), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        try:
            main(case.arguments)
        except SystemExit as end:
            code = end.code or 0
        except Hangs:
            return f"hangs: {_place(sys.exc_info()[2])}"
        except BaseException as error:
            return f"{type(error).__name__} at {_place(error.__traceback__)}: {str(error)[:150]}"
    return wrong_end(code, printed.getvalue(), errors.getvalue())


def wrong_end(code: object, printed: str, errors: str) -> str:
    """What is wrong with an exit code and with what was printed. Empty if nothing is."""
    messages = [line.removeprefix("mt-dnn: ") for line in errors.splitlines() if line.startswith("mt-dnn: ")]
    if code not in (0, 2):
        return f"exit code {code}: {errors.strip()[-150:]}"
    if code == 2 and not messages and "Usage: " not in errors:
        return f"exit code 2 without a message: {errors.strip()[-150:]}"
    longest = max((len(line) for line in messages), default=0)
    if longest > LONGEST:
        return f"a message of {longest} characters"
    if found := UNPRINTABLE.search(printed + errors):
        return f"prints {found[0]!r}"
    return ""


@contextlib.contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    """Raises Hangs in the block when its time is up."""

    def stop(*_: object) -> None:
        raise Hangs

    signals = {signal.SIGPROF: (signal.ITIMER_PROF, PROCESSOR_S), signal.SIGALRM: (signal.ITIMER_REAL, WALL_S)}
    before = {number: signal.signal(number, stop) for number in signals}
    for timer, seconds in signals.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for number, (timer, _) in signals.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def _place(trace: object) -> str:
    """The innermost line of our code that a traceback goes through."""
    frames = traceback.extract_tb(trace)  # type: ignore[arg-type]
    ours = [frame for frame in frames if "/mt_dnn/" in frame.filename or "/data_utils/" in frame.filename]
    frame = (ours or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"
