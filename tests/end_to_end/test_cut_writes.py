"""A full disk or a kill in the middle of a write leaves the old file or the complete new one. The next try works."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data_utils.benchmarks.submission import write_submission
from data_utils.features import load_tokenizer
from data_utils.prepare import prepare
from data_utils.prepared import Prepared
from data_utils.rows import write_rows
from data_utils.task_def import load_task_defs
from experiments.glue.submission import PARTS
from mt_dnn.inference.distill import copy_other_splits
from mt_dnn.runs.config_file import dump_config, load_config
from mt_dnn.runs.folder import write_inputs, write_json
from mt_dnn.runs.log import MetricsLog
from mt_dnn.runs.predictions import write_predictions
from mt_dnn.tasks.base import Decoded
from tests.cuts import cut_everywhere


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder for what is written."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.parametrize("old", [False, True])
def test_configuration_and_tasks(workspace: Path, out: Path, old: bool) -> None:
    config, tasks = load_config(workspace / "run.yml"), load_task_defs(workspace / "tasks.yml")
    if old:  # a run folder as the first attempt leaves it, if it was killed between the two files
        dump_config(config, out / "config.yml")
    cut_everywhere(lambda: write_inputs(out, config, tasks), out)
    assert load_config(out / "config.yml") == config and load_task_defs(out / "task_defs.yml") == tasks


def test_summaries_tallies_and_rows(out: Path) -> None:
    write_json(out / "summary.json", {"steps": 1})
    cut_everywhere(lambda: write_json(out / "summary.json", {"results": list(range(99))}), out)
    cut_everywhere(lambda: write_json(out / "adversary" / "same-epoch-001.json", {"counts": list(range(99))}), out)
    rows = [{"uid": str(number), "premise": "the dog"} for number in range(50)]
    (out / "same_train.tsv").write_text("uid\tpremise\n")
    cut_everywhere(lambda: write_rows(out / "same_train.tsv", rows, ["uid", "premise"]), out)


def test_predictions(workspace: Path, out: Path) -> None:
    task = load_task_defs(workspace / "tasks.yml")["overlap"]
    split = prepared(workspace)
    values = np.arange(len(split), dtype=np.float32)
    decoded = Decoded(values, values)
    (out / "overlap_dev.jsonl").write_text("{}\n")
    cut_everywhere(lambda: write_predictions(out / "overlap_dev.jsonl", task, split, decoded), out)


def test_prepared_rows(workspace: Path, out: Path) -> None:
    cut_everywhere(lambda: prepared(workspace, cache=out), out)


def test_copies_beside_distilled_rows(workspace: Path, out: Path) -> None:
    task = load_task_defs(workspace / "tasks.yml")["overlap"]
    cut_everywhere(lambda: copy_other_splits({"overlap": task}, workspace / "data", out), out)


def test_submission_files(tmp_path: Path, out: Path) -> None:
    (tmp_path / "runs").mkdir()
    record = json.dumps({"uid": "0", "prediction": "entailment"})
    (tmp_path / "runs" / f"{PARTS['RTE.tsv'].predictions}.jsonl").write_text(record)
    (out / "RTE.tsv").write_text("index\tprediction\n0\tnot_entailment\n")
    cut_everywhere(lambda: write_submission(PARTS, [tmp_path / "runs"], out, allow_missing=True), out)


def test_the_log(out: Path) -> None:
    def resume() -> None:
        MetricsLog(out, resume_step=9).close()

    records = "".join(json.dumps({"event": "train", "step": step}) + "\n" for step in range(12))
    (out / "metrics.jsonl").write_text(records)
    cut_everywhere(resume, out)
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 10


def prepared(workspace: Path, cache: Path | None = None) -> Prepared:
    task = load_task_defs(workspace / "tasks.yml")["overlap"]
    tokenizer = load_tokenizer(str(workspace / "encoder"))
    folder = cache or workspace / "cache"
    return prepare(task, "dev", data_dir=workspace / "data", cache_dir=folder, tokenizer=tokenizer, max_length=32)
