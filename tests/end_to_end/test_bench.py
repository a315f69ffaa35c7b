"""The throughput benchmark runs both sides on the same batches and prints what it promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mt_dnn.cli import main


@pytest.mark.filterwarnings("ignore")  # what Trainer and accelerate warn about is theirs
def test_throughput_beside_hf_trainer(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("accelerate", reason="the extra peer is not installed")
    options = ["tasks=[same]", "--updates", "2", "--rounds", "2", "--json"]
    with pytest.raises(SystemExit) as exit_:
        main(["bench", "throughput", str(workspace / "run.yml"), *options])
    assert exit_.value.code == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["ours_examples_per_s"] > 0 and result["peer_examples_per_s"] > 0
    assert result["ratio_min"] <= result["ratio"] <= result["ratio_max"]
    assert 0 < result["padding_share"] < 1 and result["batch_size"] == 8


def test_throughput_asks_for_one_task(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["bench", "throughput", str(workspace / "run.yml")])
    assert exit_.value.code == 2 and "choose one task" in capsys.readouterr().err
