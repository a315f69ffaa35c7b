"""Memory that a step frees stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PAGES = 40 * 1024  # of 4 KB, in 40 blocks as large as the states of a batch
CODE = """
import resource, sys
from mt_dnn.training.memory import keep_freed_memory

def step():
    return len([b"x" * 2**22 for _ in range(40)])

if sys.argv[1] == "keep":
    assert keep_freed_memory()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library can be told")
def test_a_step_finds_the_memory_of_the_one_before() -> None:
    """Without it the system clears all of it again: each page is a fault."""
    given_back, kept = (
        int(subprocess.run([sys.executable, "-c", CODE, what], capture_output=True, text=True, check=True).stdout)
        for what in ("leave", "keep")
    )
    assert given_back > PAGES / 2 and kept < PAGES / 100
