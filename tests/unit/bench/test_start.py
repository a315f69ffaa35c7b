"""The time until the first update is that of fresh processes, which take turns."""

from __future__ import annotations

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from data_utils.errors import UserError
from mt_dnn.bench import start
from mt_dnn.bench.start import measure_start, until
from mt_dnn.bench.synthetic import run_config
from mt_dnn.bench.workload import Spent
from mt_dnn.runs.config_file import load_config
from tests import ROOT
from tests.forks import Piped


def test_a_process_is_timed_until_it_has_come_so_far() -> None:
    program = "import time; sum(range(5_000_000)); print('first', flush=True); time.sleep(60)"
    begin = time.perf_counter()
    spent = until([sys.executable, "-c", program], lambda process: process.stdout.readline() == b"first\n", "it")
    assert 0 < spent.wall <= time.perf_counter() - begin < 30 and 0 < spent.cpu < 30


def test_a_process_that_fails_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^bench start: the bare script ended before its first update \(no disk\)$"):
        command = [sys.executable, "-c", "raise SystemExit('no disk')"]
        until(command, lambda process: process.stdout.readline() != b"", "the bare script")


def test_blocks_that_the_script_would_not_leave_out_are_refused() -> None:
    message = r"^bench start: the script loads all blocks; leave encoder.blocks out$"
    config = load_config(ROOT / "experiments/glue/run.yml", ["encoder.blocks=[0,1]"])
    with pytest.raises(UserError, match=message):
        measure_start(config, rounds=1)


@pytest.mark.slow
def test_train_and_script_both_reach_an_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt_dnn.bench.synthetic.ROWS", 32)
    turns: list[str] = []
    once = start.until

    def noted(command: list[str], done: object, name: str) -> Spent:
        turns.append(name)
        return once(command, done, name)  # type: ignore[arg-type]

    monkeypatch.setattr(start, "until", noted)
    monkeypatch.setattr(start, "subprocess", SimpleNamespace(Popen=Piped, PIPE=subprocess.PIPE))  # skips the imports
    tiny = [f"encoder.config.{name}" for name in ("num_hidden_layers=1", "hidden_size=12", "intermediate_size=24")]
    with run_config(None, [*tiny, "train.batch_size=4", "device=cpu"], lengths="cola") as config:
        result = measure_start(config, rounds=1)
    assert turns == ["mt-dnn train", "the bare script", "the bare script", "mt-dnn train"]
    assert (
        result["train_cpu_s"] > 0
        and result["script_cpu_s"] > 0
        and result["times_script_min"] <= result["times_script"]
    )
    assert result["device"].startswith("cpu")
