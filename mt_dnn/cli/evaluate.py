"""mt-dnn evaluate: scores of a trained model on labelled splits."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from data_utils.errors import UserError
from mt_dnn.cli.arguments import AsJson, RunFolder


def evaluate(
    run: RunFolder,
    split: Annotated[str | None, typer.Option(help="Only this split; default: all labelled ones but train.")] = None,
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of canonical rows; default: the run's.")] = None,
    task_defs: Annotated[
        Path | None, typer.Option(help="More tasks, or other metrics and splits of the run's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a trained model on labelled splits, also of tasks that it was not trained on but whose head it has."""
    from mt_dnn.inference.trained import known_task, load_trained, predict_rows
    from mt_dnn.runs.build import build_splits
    from mt_dnn.runs.evaluate import result
    from mt_dnn.runs.score_table import score_table

    loaded = load_trained(run, task_defs)
    config, tasks, tokenizer, _ = loaded
    if data is not None:
        config = config.model_copy(update={"data": config.data.model_copy(update={"dir": data, "cache": None})})
    chosen = {task: known_task(task, tasks, run)} if task else tasks.evaluated
    wanted = [(t, s) for t in chosen.values() for s in t.splits if (s == split if split else s != "train")]
    if not wanted:
        raise UserError(f"--split {split}: none of the tasks {', '.join(chosen)} has such a split")
    splits, problems = build_splits(config, wanted, tokenizer)
    for problem in problems:
        print(f"mt-dnn: {problem}", file=sys.stderr)
    unlabelled = [prepared for prepared in splits.values() if prepared.labels is None]
    if unlabelled and split:
        source = unlabelled[0].manifest["source"]
        raise UserError(f"{source}: has no labels, so there is nothing to score; see predictions/ in the run folder")
    results = []
    for (name, split_name), prepared in splits.items():
        if prepared.labels is not None:
            definition = tasks.evaluated[name]
            decoded = predict_rows(loaded, definition, prepared)
            results.append(result(definition, split_name, prepared, decoded))
    if not results:
        raise UserError(f"{config.data.dir}: no labelled split of {', '.join(chosen)} to score")
    print(json.dumps(results) if as_json else score_table(results))
