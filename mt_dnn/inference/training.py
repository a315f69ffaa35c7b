"""mt_dnn.train: training a run from Python."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

from data_utils.errors import UserError
from data_utils.shipped import notices
from mt_dnn.distributed.launch import process_group
from mt_dnn.distributed.ranks import say
from mt_dnn.inference.trained import TrainedModel, load
from mt_dnn.runs.config import RunConfig
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.run import Run
from mt_dnn.runs.score_table import score_text


class TrainingStopped(KeyboardInterrupt):
    """A signal, such as SIGTERM or Ctrl-C, has stopped the training. A checkpoint holds everything until then."""


@dataclass(frozen=True)
class TrainingResult:
    """A finished run. ``str()`` gives its table of scores.

    ``folder``: the run folder. ``summary``: the content of its ``summary.json``.
    """

    folder: Path
    summary: Mapping[str, Any]

    @property
    def results(self) -> list[dict[str, Any]]:
        """The scores of each task and split, as in ``Evaluation.results``."""
        return self.summary["results"]

    def model(self, device: str | None = None) -> TrainedModel:
        """Loads the best model of the run, as ``mt_dnn.load(folder)`` does."""
        return load(self.folder, device)

    def __str__(self) -> str:
        return score_text(self.results)


def train(
    config: Path | str | Mapping[str, Any] | RunConfig, overrides: Sequence[str] | Mapping[str, Any] = ()
) -> TrainingResult:
    """Trains a run in this process. Called again, it continues a run that was stopped.

    Args:
        config: the path of a run file, or its content as a dictionary or ``RunConfig``.
        overrides: ``["optimizer.lr=1e-4", …]`` as on the command line, or a dictionary by dotted key.

    In processes that a launcher such as torchrun has started, every process calls it, and only once.

    Raises:
        UserError: something in the configuration, the data or the run folder does not fit.
        TrainingStopped: a signal has stopped the training. The same call continues it.

    Example:
        >>> result = mt_dnn.train("experiments/glue/run.yml", {"tasks": ["rte"], "seed": 2})
        >>> print(result)
        >>> model = result.model()
    """
    if isinstance(config, RunConfig):
        config = config.model_dump(mode="json")
    if not isinstance(config, Path | str | Mapping):
        raise UserError(f"config: give the path of a run file or its content (got {type(config).__name__})")
    settings = load_config(config, _override_texts(overrides))
    with process_group(timeout_s=settings.distributed.timeout_s):
        for notice in notices(*([] if isinstance(config, Mapping) else [config]), settings.task_defs):
            say(notice)
        summary = Run(settings)()
    if isinstance(summary, int):
        name = Signals(summary).name
        raise TrainingStopped(f"{settings.output}: stopped by {name} and saved; the same call continues it")
    return TrainingResult(settings.output, summary)


def _override_texts(overrides: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Overrides as they are written on the command line."""
    if isinstance(overrides, str):
        return [overrides]
    if isinstance(overrides, Mapping):
        items = overrides.items()
        return [f"{key}={json.dumps(value, default=str, ensure_ascii=False)}" for key, value in items]
    if not isinstance(overrides, Sequence) or not all(isinstance(text, str) for text in overrides):
        raise UserError('overrides: give a dictionary by key, or a list of texts such as "optimizer.lr=1e-4"')
    return list(overrides)
