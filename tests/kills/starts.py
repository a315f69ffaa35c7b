"""Starts of ``mt-dnn train`` that can be killed: as a user starts it, or forked from this process, which is faster.

A forked start skips only the imports, because this process has made them already. Its signals, its process group and
the workers of ``--gpus`` are those of a real start. This process must not have other threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mt_dnn.distributed import launcher
from tests.forks import import_late, run_command

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
PATIENCE_S = 300  # for processes that should end by themselves


class Failure(Exception):
    """A promise was broken."""


def get_ready() -> None:
    """Imports what forked starts need. Lets this process wait for workers whose launcher was killed."""
    import_late()
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)


@dataclass
class Start:
    """One start of the command, in a process group of its own.

    ``pid``: the first process, which is also the number of the group. ``log``: what the processes print.
    ``code``: the exit code of the first process when it has ended; minus the number of the signal that ended it.
    ``before``: what a forked process does before it runs the command.
    """

    arguments: Sequence[str]
    log: Path
    real: bool
    pid: int = 0
    code: int | None = None
    began: float = field(default_factory=time.time)
    before: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            os.setpgid(0, 0)
            output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(output, stream)
            if self.real:
                os.execv(launcher.COMMAND[0], [*launcher.COMMAND, *self.arguments])
            self.before()
            run_command(self.arguments)
        with contextlib.suppress(PermissionError):  # the child has done it, and runs another program by now
            os.setpgid(self.pid, self.pid)  # in both processes, so that it is done before anything else

    def alive(self) -> bool:
        """Whether a process of the group is left."""
        try:
            while True:
                found, status = os.waitpid(-self.pid, os.WNOHANG)
                if not found:
                    return True
                if found == self.pid:
                    self.code = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            return False

    def end(self) -> int:
        """Waits for all processes. Returns the exit code of the first one."""
        deadline = time.monotonic() + PATIENCE_S
        while self.alive():
            if time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                raise Failure(f"a process was still there after {PATIENCE_S} s; see {self.log}")
            time.sleep(0.002)
        assert self.code is not None
        return self.code

    def processes(self) -> list[int]:
        """The processes of the group that have not ended. The first process comes first, if it is there."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state, _, group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:  # it has ended meanwhile
                continue
            if int(group) == self.pid and state != "Z":
                found.append(int(folder.name))
        return sorted(found, key=lambda pid: (pid != self.pid, pid))

    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")
