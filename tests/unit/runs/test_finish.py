"""The end of a run decodes the splits that somebody reads, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.runs import evaluate
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.run import Run
from mt_dnn.tasks.base import Decoded
from tests.workspace import make_workspace

LABELLED = {"same dev", "negated dev", "overlap dev", "same_hard test"}


@pytest.mark.parametrize(
    ("predictions", "decoded"),
    [
        ("false", LABELLED),
        ("{splits: labelled}", LABELLED),
        ("true", LABELLED | {"same test", "negated test"}),
    ],
)
def test_unlabelled_test_rows_are_decoded_only_to_be_written(
    predictions: str, decoded: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()

    def watched(model: Any, task: TaskDef, owner: TaskDef, split: Prepared, *rest: Any, **options: Any) -> Decoded:
        found.add(f"{task.name} {split.manifest['split']}")
        return original(model, task, owner, split, *rest, **options)

    original = evaluate.predict_split
    monkeypatch.setattr(evaluate, "predict_split", watched)
    file = make_workspace(tmp_path, train_rows=8)
    config = load_config(file, ["train.max_steps=1", f"evaluation.predictions={predictions}"])
    Run(config, shown=False)()
    assert found == decoded
    written = {path.stem for path in (tmp_path / "run").glob("predictions/*.jsonl")}
    assert written == (set() if predictions == "false" else {name.replace(" ", "_") for name in decoded})
