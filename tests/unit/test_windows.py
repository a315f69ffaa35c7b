"""Everything can be imported where Python lacks what only Unix has. (Running there is not tested.)"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import ROOT

# What Python on Windows has not: modules, signals, and functions of os.
MODULES_OF_UNIX = "fcntl resource pwd grp termios tty pty posix syslog readline"
SIGNALS_OF_UNIX = "SIGHUP SIGUSR1 SIGUSR2 SIGKILL SIGALRM SIGCHLD SIGPIPE alarm pause pthread_kill"
OS_OF_UNIX = "fork getuid geteuid getpgid killpg setsid sched_getaffinity uname sysconf statvfs"
LIBRARIES = (
    "torch torch.distributed.fsdp torch.distributed.checkpoint transformers datasets scipy.stats sklearn.metrics "
    "pydantic omegaconf typer rich filelock pyarrow.parquet seqeval.metrics"
)
CODE = f"""
import os, signal, sys
from importlib import import_module

for name in "{LIBRARIES}".split():
    import_module(name)
for name in "{MODULES_OF_UNIX}".split():
    sys.modules[name] = None
for module, names in ((signal, "{SIGNALS_OF_UNIX}"), (os, "{OS_OF_UNIX}")):
    for name in names.split():
        delattr(module, name)
failed = {{}}
for name in sys.argv[1:]:
    try:
        import_module(name)
    except (ImportError, AttributeError) as error:
        failed[name] = repr(error)
print(len(sys.argv) - 1, failed)
"""
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("data_utils", "mt_dnn")
    for path in (ROOT / package).rglob("*.py")
)


@pytest.mark.slow
def test_no_module_needs_unix_when_it_is_imported() -> None:
    result = subprocess.run([sys.executable, "-c", CODE, *MODULES], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.splitlines()[-1] == f"{len(MODULES)} {{}}", result.stdout + result.stderr
