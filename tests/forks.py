"""Processes that skip the imports: each is forked from one that has made them already.

A forked ``mt-dnn`` differs from the one that a user starts in nothing else. Its signals and the workers of ``--gpus``
are those of a real start.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import IO, Any

import torch

from mt_dnn.cli.main import app, main
from mt_dnn.distributed import launcher
from mt_dnn.threads import NUMBER
from tests import ROOT

# Modules that a run imports late. They are imported once for all processes that are forked.
LATE = (
    "mt_dnn.inference.next_commands",
    "mt_dnn.runs.run",
    "mt_dnn.runs.score_table",
    "scipy.stats",
    "sklearn.metrics",
    "torch.distributed.checkpoint",
    "torch.distributed.fsdp",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
)
STOPS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT)


def import_late() -> None:
    """Makes late imports, and what they do at their first use whatever the command is."""
    for name in LATE:
        import_module(name)
    _ = app.parser
    with contextlib.suppress(ImportError, AttributeError):  # other versions of transformers have other names
        import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("bert")


class Forked:
    """A worker of the launcher, forked instead of started. It has the methods of Popen that the launcher calls."""

    begin: Callable[[], None] = staticmethod(lambda: None)  # what it does first

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], pass_fds: Sequence[int] = ()) -> None:
        self.code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            self.begin()
            low = 3
            for handle in sorted(pass_fds):  # Popen closes all others
                os.closerange(low, handle)
                low = handle + 1
            os.closerange(low, os.sysconf("SC_OPEN_MAX"))
            os.environ.clear()
            os.environ.update(env)
            run_command(command[len(launcher.COMMAND) :])

    def poll(self) -> int | None:
        return self._collect(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int | None:
        return self._collect(0)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _collect(self, options: int) -> int | None:
        if self.code is None:
            found, status = os.waitpid(self.pid, options)
            self.code = os.waitstatus_to_exitcode(status) if found else None
        return self.code


def run_command(arguments: Sequence[str]) -> None:
    """Runs ``mt-dnn`` in a process that was just forked, and ends it with the exit code."""
    for number in STOPS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    launcher.Popen = Forked  # type: ignore[assignment, misc]
    end_with(lambda: main(list(arguments)))


def end_with(run: Callable[[], object]) -> None:
    """Calls ``run`` in a process that was just forked, and ends the process with the exit code."""
    code = 1
    try:
        code = exit_code(run())
    except SystemExit as end:
        code = exit_code(end.code)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run_module(arguments: Sequence[str]) -> None:
    """Runs ``python -m`` with these arguments in a process that was just forked."""
    sys.argv = list(arguments)
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def run_python(arguments: Sequence[str]) -> None:
    """Does what ``python`` does with these arguments, in a process that was just forked."""
    if arguments[0] == "-m":
        run_module(arguments[1:])
    elif arguments[0] in ("-", "-c"):
        read = arguments[0] == "-"
        sys.argv = ["-", *arguments[1:]] if read else ["-c", *arguments[2:]]
        code = sys.stdin.read() if read else arguments[1]
        exec(compile(code, "block", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = list(arguments)
        sys.path.insert(0, str(Path(arguments[0]).parent))
        runpy.run_path(arguments[0], run_name="__main__")


def exit_code(given: object) -> int:
    """The exit code of a process that has called ``sys.exit`` with this. Python prints what is no number."""
    if given is None or isinstance(given, int):
        return given or 0
    print(given, file=sys.stderr)
    return 1


@functools.cache
def server() -> ForkServerContext:
    """Starts the process that others are forked from. It makes the imports, and computes nothing.

    Tests fork from it and not from their own process, which may have other threads.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.preloaded", __name__])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), before]))
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
    return context


class Command:
    """``mt-dnn ARGUMENTS``, forked from the server. It has the methods of Popen that tests call.

    ``run``: what is called with the arguments instead, for example ``run_module``.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str] = os.environ,
        run: Callable[[Sequence[str]], None] = run_command,
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mt_dnn_"))
        self._printed = [self._folder / "output", self._folder / "errors"]
        for file in self._printed:
            file.touch()
        given = (run, arguments, self._printed, dict(environment))
        self._process = server().Process(target=_enter, args=given, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for the end. Returns what was printed: standard output and standard error."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("mt-dnn", timeout or 0)
        output, errors = (file.read_text(encoding="utf-8") for file in self._printed)
        shutil.rmtree(self._folder)
        return output, errors


class Piped:
    """``python ARGUMENTS``, forked from the server. It has what callers of Popen with two pipes ask for.

    ``text``: whether the pipes carry texts and not bytes, as for Popen.
    """

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str] = os.environ, text: bool = False, **_: object
    ) -> None:
        folder = Path(tempfile.mkdtemp(prefix="mt_dnn_"))
        pipes = [folder / "input", folder / "output"]
        for pipe in pipes:
            os.mkfifo(pipe)
        self._process = server().Process(target=_enter_python, args=(command[1:], pipes, dict(env)), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid, mode = self._process.pid, "" if text else "b"
        self.stdin: IO[Any] = os.fdopen(os.open(pipes[0], os.O_WRONLY), f"w{mode}")  # waits for the process
        self.stdout: IO[Any] = os.fdopen(os.open(pipes[1], os.O_RDONLY), f"r{mode}")
        shutil.rmtree(folder)

    def __enter__(self) -> Piped:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.join()

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self) -> tuple[Any, None]:
        """Waits for the end. Returns what is left of the output."""
        with self.stdin, self.stdout:
            self._process.join()
            return self.stdout.read(), None


Process = Command | subprocess.Popen[str]


def start(*arguments: str, real: bool = False, **environment: str) -> Process:
    """Starts ``mt-dnn ARGUMENTS``: forked or, if ``real``, as a user starts it.

    ``environment``: variables that differ from those of this process.
    """
    if not real:
        return Command(arguments, {**os.environ, **environment})
    command, pipe = [*launcher.COMMAND, *arguments], subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **environment})


def _enter(
    run: Callable[[Sequence[str]], None],
    arguments: Sequence[str],
    printed: Sequence[Path],
    environment: Mapping[str, str],
) -> None:
    for number, file in enumerate(printed, start=1):
        os.dup2(os.open(file, os.O_WRONLY), number)
    _set_environment(environment)
    run(arguments)


def _enter_python(arguments: Sequence[str], pipes: Sequence[Path], environment: Mapping[str, str]) -> None:
    for number, (file, mode) in enumerate(zip(pipes, (os.O_RDONLY, os.O_WRONLY), strict=True)):
        os.dup2(os.open(file, mode), number)
    _set_environment(environment)
    sys.stdin = os.fdopen(0)
    run_python(arguments)


def _set_environment(environment: Mapping[str, str]) -> None:
    threads = os.environ.get(NUMBER)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # or that of the server stays
    check_forked()
    if NUMBER in environment and environment[NUMBER] != threads:  # torch has read it; it takes no more than cores
        torch.set_num_threads(int(environment[NUMBER]))


def check_forked() -> None:
    """Raises AssertionError if the server has not made the imports: each process would make them anew."""
    missing = [name for name in LATE if name not in sys.modules]
    assert not missing, f"not imported before the fork: {missing}"
