"""The benchmark of several processes, and a rank that does not answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_utils.errors import RankError
from mt_dnn.distributed.launch import explained
from mt_dnn.distributed.ranks import barrier, rank
from tests.distributed.workers import run_ranks


def test_throughput_of_two_processes(workspace: Path) -> None:
    options = ["tasks=[same]", "--processes", "2", "--updates", "2", "--rounds", "2", "--json"]
    command = [sys.executable, "-m", "mt_dnn.cli", "bench", "scaling", str(workspace / "run.yml"), *options]
    found = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    assert result["processes"] == 2 and result["threads"] == 1
    assert result["speedup_min"] <= result["speedup"] <= result["speedup_max"]
    assert all(result[f"{way}_examples_per_s"] > 0 for way in ("one", "together", "apart"))


def wait_for_a_rank_that_sleeps(folder: Path) -> None:
    if rank() == 1:
        time.sleep(8)
        os._exit(0)
    with pytest.raises(RankError) as found, explained(lambda: "after update 7"):
        barrier()
    (folder / "message").write_text(str(found.value))
    os._exit(0)


def test_a_rank_that_does_not_answer_is_named_with_the_update(tmp_path: Path) -> None:
    run_ranks(2, wait_for_a_rank_that_sleeps, tmp_path, timeout_s=3)
    message = (tmp_path / "message").read_text()
    assert message.startswith("rank 0: after update 7: another rank does not answer (distributed.timeout_s)")
