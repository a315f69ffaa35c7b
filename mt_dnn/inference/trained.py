"""TrainedModel: the model of a trained run, ready to predict, score and embed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from data_utils.encoded_rows import encode_rows
from data_utils.errors import UserError, did_you_mean
from data_utils.prepare import check_questions
from data_utils.prepared import Prepared
from data_utils.python_rows import Row, rows_from_python
from data_utils.rows import Rows
from data_utils.task_def import TaskDef, load_task_defs
from mt_dnn.inference.choices import check_given, with_batch_size, with_precision
from mt_dnn.inference.embed import Text, embed
from mt_dnn.inference.evaluation import Evaluation, check_labelled, check_scored, read_splits, splits_to_score
from mt_dnn.inference.huggingface import TransformersModel, describe, in_transformers_format, locate
from mt_dnn.runs.build import build_model, build_passes, build_tokenizer, choose_device
from mt_dnn.runs.checkpoints import read_checkpoint
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.evaluate import predict_split, result, score
from mt_dnn.runs.outputs import Passes, row_outputs
from mt_dnn.runs.predictions import prediction_records
from mt_dnn.tasks.base import Decoded
from mt_dnn.tasks.losses import MISSING
from mt_dnn.tasks.model import Model
from mt_dnn.tasks.run_tasks import Tasks, evaluated_tasks, head_owner


def load(
    run: Path | str,
    device: str | None = None,
    task_defs: Path | str | None = None,
    *,
    precision: str | None = None,
    batch_size: int | None = None,
) -> TrainedModel:
    """Loads the model of a trained run, or a model in the format of transformers.

    Args:
        run: a run folder (its best checkpoint is loaded, else its last), or one of its checkpoints. Or a folder,
            ``package:<package>/<folder>`` or name on the Hugging Face hub (``owner/name``), with such a run, or with a
            model of transformers: one that classifies texts or words, or an encoder alone, which can only ``embed``.
            huggingface.py says what its tasks are.
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``auto``. Default: the device in the run's configuration.
        task_defs: a task file. Its tasks are added to those of the run if they read a head of the run (``head:``). For
            tasks of the run, it may have other metrics and splits.
        precision: the number type of forward passes, ``fp32``, ``bf16``, ``fp16``, on a GPU ``tf32``, or on a CPU
            ``int8`` (int8.py). Default: the one that the run was trained with; for tf32 that is fp32 on a CPU. With
            fewer bits scores change a little.
        batch_size: the most rows in one forward pass. Default: ``evaluation.batch_size`` of the run, by default as
            many as ``evaluation.batch_tokens`` allows.

    Raises:
        UserError: the folder holds no model or a damaged one, the device does not exist, the precision is unknown
            or not for this device, or the task file does not fit the heads of the run.

    Example:
        >>> model = mt_dnn.load("runs/mtdnn-seed3")
        >>> model.predict("rte", [("A cat sleeps.", "An animal sleeps.")])
        [{'uid': '1', 'prediction': 'entailment', 'scores': {'not_entailment': 0.04, 'entailment': 0.96}}]
    """
    source = locate(run)
    # Building a model seeds the random generators. Here they belong to the caller.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        if in_transformers_format(source):
            folder, (config, tasks, tokenizer, model) = source, _read(source, task_defs)
        else:
            folder, (config, tasks, tokenizer, model) = read_checkpoint(
                source, lambda checkpoint: (checkpoint, _read(checkpoint, task_defs))
            )
    chosen = choose_device(config.device if device is None else device)
    config = with_precision(config, model.to(chosen), precision, chosen)
    return TrainedModel(Path(run), folder, with_batch_size(config, batch_size), tasks, tokenizer, model.eval())


def _read(folder: Path, task_defs: Path | str | None) -> tuple[RunConfig, Tasks, PreTrainedTokenizerBase, Model]:
    """Reads a checkpoint, or a folder in the format of transformers. ``task_defs``: see ``load``."""
    foreign = TransformersModel.load(folder) if in_transformers_format(folder) else None
    if foreign is not None:
        config, known = describe(folder, foreign)
    else:
        config, known = load_config(folder / "config.yml"), load_task_defs(folder / "task_defs.yml")
    trained = {name: task for name, task in known.items() if task.trainable}
    given = evaluated_tasks(load_task_defs(task_defs, trained), trained) if task_defs else {}
    if task_defs:
        check_given(given, trained, task_defs)
    tasks = Tasks(trained, evaluated_tasks({**known, **given}, trained))
    tokenizer = build_tokenizer(config, None if foreign else folder)
    return config, tasks, tokenizer, foreign or build_model(config, tasks, tokenizer, folder)


class TrainedModel:
    """A trained model with its tokenizer. ``mt_dnn.load`` makes it.

    ``run``: what ``load`` was given. ``folder``: the checkpoint, or the folder of transformers, that was read.
    ``tasks``: the definitions of the tasks that the model can answer, by name. ``trained``: those among them that it
    was trained on. The other tasks read the head of a trained task.

    Rows are a list or any other iterable. A row is a text, a tuple of texts, or a dictionary by column name; see
    ``data_utils.python_rows.rows_from_python``. Dropout is off. Nothing is written to disk, except that ``evaluate``
    keeps the rows of files as token ids in the cache of the data folder.
    """

    def __init__(
        self, run: Path, folder: Path, config: RunConfig, tasks: Tasks, tokenizer: PreTrainedTokenizerBase, model: Model
    ) -> None:
        self.run, self.folder, self.config, self.tokenizer, self.model = run, folder, config, tokenizer, model
        self._encoding = RLock()  # the tokenizer keeps settings between calls, so threads must not share a call
        self.tasks: Mapping[str, TaskDef] = tasks.evaluated
        self.trained: Mapping[str, TaskDef] = tasks.trained

    def __repr__(self) -> str:
        return f"TrainedModel({self.run}: {', '.join(self.tasks)})"

    def task(self, name: str) -> TaskDef:
        """The definition of a task.

        Raises:
            UserError: the model has no task of this name.
        """
        if name not in self.tasks:
            known = f"known: {', '.join(self.tasks)}" if self.tasks else "it is an encoder without a task"
            hint = did_you_mean(name, self.tasks) or f" ({known})"
            raise UserError(f"{self.run}: no task '{name}'{hint}")
        return self.tasks[name]

    def predict(self, task: str, rows: Iterable[Row]) -> list[dict[str, Any]]:
        """Predicts with the head of a task. Labels in the rows are ignored.

        Returns:
            One dictionary for each row, in the order of the rows: ``uid``, ``prediction``, and further keys of the task
            type, such as ``scores``. ``mt-dnn predict`` and the ``predictions`` of a run folder have the same keys.

        Raises:
            UserError: no such task, or a row does not fit it.
        """
        definition, split = self._encode(task, rows)
        return [] if split is None else list(prediction_records(definition, split, self.decode(definition, split)))

    def logits(self, task: str, rows: Iterable[Row]) -> list[np.ndarray]:
        """The outputs of a task's head, before they become answers.

        Returns:
            One array for each row, (decisions, options): (1, C) for C classes or choices; (1, 1) for a value, in the
            user's units; (C, 2) for a set of classes; (W, C) for W words; (2·windows, L) for start and end of an answer
            in windows of up to L tokens; (n, V) for n masked tokens. A task that reads the head of another has that
            task's classes. Values are in float64, all others in float32.

        Raises:
            UserError: no such task, or a row does not fit it.
        """
        definition, split = self._encode(task, rows)
        if split is None:
            return []
        outputs = row_outputs(self.model, definition.name, split, lambda logits, batch: logits, self.passes)
        return by_row(outputs, split)

    def embed(
        self, texts: Iterable[Text], *, pooling: str = "mean", level: int | None = None, batch_size: int | None = None
    ) -> np.ndarray:
        """Vectors of texts, or of pairs of texts, from the shared encoder, without a head: (N, H), float32 or float64.

        Args:
            texts: texts, or tuples of two texts that are read together.
            pooling: how the states of a text's tokens (special tokens included) become one vector. ``mean``, ``max``,
                ``cls`` (the first token), or ``pooler``: what the heads read.
            level: the block whose output is taken, from 1; 0 is what goes into block 1. Default: the final states.
            batch_size: the most texts in one forward pass. Default: ``evaluation.batch_size`` of the run, by
                default as many as ``evaluation.batch_tokens`` allows.

        Raises:
            UserError: an unknown pooling or level, ``pooler`` below the final states, or something that is not a text.
        """
        passes = build_passes(with_batch_size(self.config, batch_size), self.passes.device)
        options: dict[str, Any] = {"pooling": pooling, "level": level, "max_length": self.config.data.max_length}
        with self._encoding:
            return embed(self.model.encoder, self.tokenizer, texts, passes, **options)

    def score(self, task: str, rows: Iterable[Row]) -> dict[str, Any]:
        """Computes the metrics of a task on labelled rows. Rows are dictionaries with a ``label``.

        Raises:
            UserError: no such task, no rows or no labels, or a row does not fit the task.
        """
        definition, split = self._encode(task, rows, labelled=True)
        if split is None or split.labels is None:
            what = "no rows" if split is None else "the rows have no 'label'"
            raise UserError(f"score: {what}, so there is nothing to score")
        check_questions(split, definition)
        return score(definition, split, self.decode(definition, split))

    def evaluate(
        self, task: str | None = None, split: str | None = None, *, data: Path | str | None = None
    ) -> Evaluation:
        """Scores the model on the labelled rows of a data folder, as ``mt-dnn evaluate`` does.

        Args:
            task: only this task. Default: all tasks of the model.
            split: only this split. Default: all splits but ``train``.
            data: the folder of canonical rows. Default: the folder in the run's configuration.

        Raises:
            UserError: no such task or split, a file of rows is wrong, or there are no labels to score against.
        """
        chosen = {task: self.task(task)} if task else self.tasks
        with self._encoding:
            splits, missing = read_splits(self.config, splits_to_score(chosen, split), self.tokenizer, data=data)
        if split:
            check_labelled(splits.values())
        results = [
            result(chosen[name], split_name, prepared, self.decode(chosen[name], prepared))
            for (name, split_name), prepared in splits.items()
            if prepared.labels is not None
        ]
        check_scored(results, missing, data or self.config.data.dir, chosen)
        return Evaluation(results, missing)

    def decode(self, task: TaskDef, split: Prepared) -> Decoded:
        """The predictions for a prepared split."""
        return predict_split(self.model, task, self.owner(task), split, self.passes)

    def owner(self, task: TaskDef) -> TaskDef:
        """The task that owns the head of a task, often the task itself."""
        return self.trained[head_owner(task)]

    def encode(self, task: TaskDef, rows: Rows) -> Prepared:
        """The rows as token ids, in memory."""
        lengths = {"max_length": self.config.data.max_length, "stride": self.config.data.stride}
        with self._encoding:
            return encode_rows(rows, task, self.tokenizer, **lengths)

    @property
    def passes(self) -> Passes:
        """How rows go through the model."""
        return build_passes(self.config, next(self.model.parameters()).device)

    def _encode(self, task: str, rows: Iterable[Row], *, labelled: bool = False) -> tuple[TaskDef, Prepared | None]:
        """The task, and the rows as token ids in memory. None if there are no rows."""
        definition = self.task(task)
        found = rows_from_python(rows, definition, labelled=labelled)
        return definition, None if found is None else self.encode(definition, found)


def by_row(outputs: Sequence[np.ndarray], split: Prepared) -> list[np.ndarray]:
    """The outputs of each row: padding is cut off, and the windows of a row are stacked."""
    if split.groups is not None or split.contexts is not None:  # options are choices, or the tokens of a window
        counts = split.lengths if split.groups is None else np.diff(split.groups)
        outputs = [output[:, :count] for output, count in zip(outputs, counts, strict=True)]
    windows = [outputs[start:stop] for start, stop in pairwise([*split.firsts, len(split)])]
    return [np.concatenate(_filled(found)) for found in windows]


def _filled(outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Pads the outputs with MISSING, the logit of an impossible option, until all have the same number of options."""
    most = max(output.shape[1] for output in outputs)
    return [np.pad(output, ((0, 0), (0, most - output.shape[1])), constant_values=MISSING) for output in outputs]
