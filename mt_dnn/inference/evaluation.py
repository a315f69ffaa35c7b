"""Reads files of rows for a trained model, and holds its scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from data_utils.errors import UserError
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.runs.build import build_splits
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.score_table import score_text


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model. ``str()`` gives the table that ``mt-dnn evaluate`` prints.

    ``results``: one dictionary for each task and split, with the keys ``task``, ``split``, ``rows`` (how many),
    ``scores`` (by metric) and ``baseline`` (the scores of the best prediction that is the same for all rows).
    ``missing``: one line about files of rows that do not exist, and one for each whose labels are placeholders.
    """

    results: list[dict[str, Any]]
    missing: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return score_text(self.results)


def read_splits(
    config: RunConfig,
    wanted: Iterable[tuple[TaskDef, str]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    data: Path | str | None = None,
) -> tuple[dict[tuple[str, str], Prepared], list[str]]:
    """Reads files of rows as token ids, as a run with this configuration does.

    ``wanted``: pairs of a task and the name of a split. ``data``: another folder of rows than the configuration's, of
    which all rows are read, whatever ``data.max_eval_rows`` says.

    Returns:
        The splits by (task, name of the split), one line about all files that do not exist, and one for each file whose
        labels are placeholders.
    """
    source = config.data
    if data is not None:
        source = source.model_copy(update={"dir": Path(data), "max_eval_rows": None})
    return build_splits(config.model_copy(update={"data": source}), wanted, tokenizer)


def splits_to_score(tasks: Mapping[str, TaskDef], split: str | None) -> list[tuple[TaskDef, str]]:
    """Pairs (task, split name): the split ``split`` of all tasks that have it. Default: all splits except ``train``.

    Raises:
        UserError: no task has such a split.
    """
    wanted = [
        (task, name) for task in tasks.values() for name in task.splits if (name == split if split else name != "train")
    ]
    if not wanted and split is None:
        raise UserError(
            f"{', '.join(tasks)}: no split but train; name one in a task file (splits, files) and give it with "
            "--task-defs, or score the training rows with --split train"
        )
    if not wanted:
        raise UserError(f"split '{split}': none of the tasks {', '.join(tasks)} has this split")
    return wanted


def check_labelled(splits: Iterable[Prepared]) -> None:
    """Raises UserError for a split without labels."""
    for split in splits:
        if split.labels is None:
            source = split.manifest["source"]
            raise UserError(
                split.manifest.get("notice")
                or f"{source}: has no labels, so there is nothing to score; see predictions/ in the run folder"
            )


def check_scored(
    results: Sequence[Mapping[str, Any]], missing: Sequence[str], data: object, tasks: Iterable[str]
) -> None:
    """Raises UserError if there are no results. ``missing``: see ``Evaluation``."""
    if not results:
        because = f" ({missing[0].removesuffix('; skipped')})" if missing else ""
        raise UserError(
            f"{data}: no labelled split of {', '.join(tasks)} to score{because}; a file is named <task>_<split>.tsv, "
            "or as files says in the task file"
        )
