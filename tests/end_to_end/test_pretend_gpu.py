"""Steps on a pretend GPU (tests/pretend_gpu): no mix-up of devices, no wait, as many operations as before."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from tests import ROOT
from tests.forks import Command, run_module

# The pretend device would stay in this process.


@pytest.mark.slow
@pytest.mark.timeout(1200)  # about a minute of processor time
def test_steps_ask_no_more_of_a_gpu_than_before() -> None:
    process = Command(["tests.pretend_gpu"], run=run_module)
    printed = process.communicate()
    assert process.returncode == 0, "".join(printed)


def write_a_fault(arguments: Sequence[str]) -> None:
    from tests.pretend_gpu import __main__ as command

    command.measured = lambda folder, wanted: iter([("a case", {"fault": "TypeError: so"})])
    sys.argv = list(arguments)
    sys.exit(command.main())


def test_faults_are_not_written() -> None:
    counts = ROOT / "tests" / "pretend_gpu" / "counts.json"
    before = counts.read_bytes()
    process = Command(["pretend_gpu", "--write"], run=write_a_fault)
    output, _ = process.communicate()
    after = counts.read_bytes()
    counts.write_bytes(before)
    assert (process.returncode, output) == (1, "a case: TypeError: so\n")
    assert after == before
