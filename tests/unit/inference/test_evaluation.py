"""Rows that a trained model is scored on: where they are read and kept."""

from __future__ import annotations

import shutil
from pathlib import Path

from data_utils.task_def import load_task_defs
from mt_dnn.inference.evaluation import read_splits
from mt_dnn.runs.build import build_tokenizer
from mt_dnn.runs.config_file import load_config


def test_rows_of_another_folder_are_kept_where_the_run_keeps_its_rows(workspace: Path) -> None:
    other = workspace / "other"
    shutil.copytree(workspace / "data", other)
    task = load_task_defs(workspace / "tasks.yml")["same"]
    for cache, kept in ((f"data.cache={workspace / 'cache'}", workspace / "cache"), ("seed=1", other / "prepared")):
        config = load_config(workspace / "run.yml", [cache])
        read_splits(config, [(task, "dev")], build_tokenizer(config), data=other)
        assert [path.name.partition("-")[0] for path in kept.iterdir()] == ["same_dev"]
        if kept != other / "prepared":
            assert not (other / "prepared").exists()
