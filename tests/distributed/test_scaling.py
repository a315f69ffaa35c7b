"""The benchmark of several processes, and a rank that does not answer."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from data_utils.errors import RankError
from data_utils.files import replacing
from mt_dnn.distributed.launch import explained
from mt_dnn.distributed.ranks import barrier, rank
from tests.distributed.workers import run_ranks
from tests.forks import start


def test_throughput_of_two_processes(workspace: Path) -> None:
    options = ["tasks=[same]", "--processes", "2", "--updates", "2", "--rounds", "2", "--json"]
    process = start("bench", "scaling", str(workspace / "run.yml"), *options, OMP_NUM_THREADS="1")
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    result = json.loads(output)
    assert result["processes"] == 2 and result["threads"] == 1
    assert result["speedup_min"] <= result["speedup"] <= result["speedup_max"]
    assert all(result[f"{way}_examples_per_s"] > 0 for way in ("one", "together", "apart"))


def wait_for_a_rank_that_sleeps(folder: Path) -> None:
    if rank() == 1:
        while not (folder / "message").exists():
            time.sleep(0.05)
        os._exit(0)
    with pytest.raises(RankError) as found, explained(lambda: "after update 7"):
        barrier()
    with replacing(folder / "message") as temporary:
        temporary.write_text(str(found.value))
    os._exit(0)


def test_a_rank_that_does_not_answer_is_named_with_the_update(tmp_path: Path) -> None:
    run_ranks(2, wait_for_a_rank_that_sleeps, tmp_path, timeout_s=3)
    message = (tmp_path / "message").read_text()
    assert message.startswith("rank 0: after update 7: another rank does not answer (distributed.timeout_s)")
