"""A rank that is lost at any time is told in one line by the others."""

from __future__ import annotations

import sys

import pytest

from mt_dnn.distributed import launcher

SCRIPT = """
import os, sys
from data_utils.errors import RankError
from mt_dnn.distributed.launch import process_group
from mt_dnn.distributed.ranks import barrier, rank
try:
    with process_group(timeout_s=60):
        if rank() == 1:
            os._exit(9)
        barrier()
except RankError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_rank_that_is_lost_before_training_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launcher, "COMMAND", (sys.executable, "-c", SCRIPT))
    assert launcher.launch(2, []) == 1
    output = capfd.readouterr()
    assert "rank 0: before or after training: another rank has died" in output.out
    assert "Traceback" not in output.err
