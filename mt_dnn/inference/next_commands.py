"""Commands for a run that has just finished."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from mt_dnn.inference.export.forms import exportable
from mt_dnn.inference.trained import TrainedModel
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.start import Parts


def next_commands(config: RunConfig, parts: Parts) -> Iterator[tuple[str, str]]:
    """Yields commands without ``mt-dnn``, each with what it gives. The user fills in FILE, FOLDER and OTHER_RUN.

    All of them work: a task is named where there are several, nothing is compared without predictions of labelled rows,
    and nothing is exported that has no form in transformers.
    """
    folder = shlex.quote(f"{config.output}")
    model = TrainedModel(config.output, config.output, config, parts.tasks, parts.tokenizer, parts.model)
    task = f" --task {next(iter(model.trained))}" if len(model.tasks) > 1 else ""
    yield f"predict {folder}{task} --input FILE", "answers to new rows"
    labelled = any(split != "train" and rows.labels is not None for (_, split), rows in parts.splits.items())
    if config.evaluation.predicted is not None and labelled:
        yield f"compare {folder} OTHER_RUN", "which of two runs is better, and on which rows"
    merge = "" if config.adapter.kind == "none" else " --merge"
    if (name := exportable(model)) is not None:
        task = f" --task {name}" if len(model.trained) > 1 else ""
        yield f"export {folder}{merge}{task} --output FOLDER", "a model for transformers"
    elif not config.encoder.scalar_mix:
        yield f"export {folder}{merge} --encoder-only --output FOLDER", "the encoder for transformers"
