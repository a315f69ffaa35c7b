"""Everything can be imported where Python lacks what only Unix has. (Running there is not tested.)"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from tests import ROOT
from tests.forks import Command, end_with

# What Python on Windows has not: modules, signals, and functions of os.
MODULES_OF_UNIX = "fcntl resource pwd grp termios tty pty posix syslog readline"
SIGNALS_OF_UNIX = "SIGHUP SIGUSR1 SIGUSR2 SIGKILL SIGALRM SIGCHLD SIGPIPE alarm pause pthread_kill"
OS_OF_UNIX = "fork getuid geteuid getpgid killpg setsid sched_getaffinity uname sysconf statvfs"
LIBRARIES = (
    "torch torch.distributed.fsdp torch.distributed.checkpoint transformers datasets scipy.stats sklearn.metrics "
    "pydantic omegaconf typer rich filelock pyarrow.parquet seqeval.metrics"
)
PACKAGES = ("data_utils", "mt_dnn")
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
)


def import_without_unix(modules: Sequence[str]) -> None:
    """Imports the modules in a process that was just forked, and prints why some cannot be imported."""
    for name in LIBRARIES.split():
        import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]  # they were imported before the fork
    for name in MODULES_OF_UNIX.split():
        sys.modules[name] = None  # type: ignore[assignment]
    for module, names in ((signal, SIGNALS_OF_UNIX), (os, OS_OF_UNIX)):
        for name in names.split():
            delattr(module, name)
    failed = {}
    for name in modules:
        try:
            import_module(name)
        except (ImportError, AttributeError) as error:
            failed[name] = repr(error)
    print(len(modules), failed)


def imported(modules: Sequence[str]) -> None:
    end_with(lambda: import_without_unix(modules))


def test_no_module_needs_unix_when_it_is_imported() -> None:
    process = Command(MODULES, os.environ, run=imported)
    output, errors = process.communicate()
    assert output.splitlines()[-1:] == [f"{len(MODULES)} {{}}"], output + errors
