"""Trackers of experiments: TensorBoard, Weights & Biases and MLflow. Each takes the numbers of a run's log."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args
from uuid import uuid4

from data_utils.errors import UserError

TrackerName = Literal["tensorboard", "wandb", "mlflow"]
Ending = Literal["finished", "stopped", "failed"]  # of a run. One that a signal has stopped can go on
PROJECT = "mt-dnn"  # where a tracker shows runs together, unless an environment variable names another one
MOST_METRICS, MOST_PARAMETERS, LONGEST = 1000, 100, 500  # what MLflow takes in one call, and characters of a value

Numbers = tuple[int, Mapping[str, float]]  # the update, and numbers by name


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run.

    Args:
        folder: the run folder.
        name: what people call it.
        settings: its configuration, by dotted key.
        id: what the tracker called it when it was first opened; None: it is new.
        resume_step: updates that were made before this process.
    """

    folder: Path
    name: str
    settings: Mapping[str, Any]
    id: str | None = None
    resume_step: int = 0


class Tracker(ABC):
    """A program that shows numbers of runs. It is opened when it is made.

    ``package``: what has to be installed. ``extra``: the extra of setup.py that installs it.
    ``revises``: the tracker can take numbers back. It gets them at once, and after a restart those of repeated updates
    again. The others get numbers only when no restart can repeat their updates.
    ``id``: what to open it with again after a restart.
    """

    package: ClassVar[str]
    extra: ClassVar[str]
    revises: ClassVar[bool] = False
    id: str = ""

    @abstractmethod
    def __init__(self, run: TrackedRun) -> None: ...

    @abstractmethod
    def add(self, numbers: Sequence[Numbers]) -> None:
        """Takes the numbers of updates, in the order of the log."""

    @abstractmethod
    def close(self, ending: Ending) -> None:
        """Ends the connection, and shows how the run has ended. The numbers are in safety then."""


class TensorBoard(Tracker):
    """Event files in ``<run>/tensorboard``."""

    package, extra, revises = "tensorboard", "tensorboard", True

    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.resume_step + 1)

    def add(self, numbers: Sequence[Numbers]) -> None:
        for step, values in numbers:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self, ending: Ending) -> None:
        self._writer.close()


class WandB(Tracker):
    """A run of Weights & Biases. Without ``WANDB_MODE`` it is offline, in ``<run>/wandb``, for ``wandb sync``."""

    package, extra = "wandb", "wandb"

    def __init__(self, run: TrackedRun) -> None:
        mode = os.environ.get("WANDB_MODE", "offline")
        if mode == "offline":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would ask the network
        import wandb

        self.id = run.id or uuid4().hex
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            id=self.id,
            dir=str(run.folder),
            config=dict(run.settings),
            mode=mode,
            resume="allow" if mode == "online" else None,
            settings=wandb.Settings(silent=True, console="off"),
        )

    def add(self, numbers: Sequence[Numbers]) -> None:
        for step, values in numbers:
            self._run.log(dict(values), step=step)

    def close(self, ending: Ending) -> None:
        self._run.finish(exit_code=0 if ending == "finished" else 1)


MLFLOW_STATUS: Mapping[Ending, str] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class MLflow(Tracker):
    """A run of MLflow. Without ``MLFLOW_TRACKING_URI`` it is in the database ``<run>/mlflow.db`` of SQLite."""

    package, extra = "mlflow", "mlflow"

    def __init__(self, run: TrackedRun) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Param

        default = f"sqlite:///{(run.folder / 'mlflow.db').resolve()}"
        self._client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", default))
        if run.id is not None:
            self.id = run.id
            self._client.update_run(self.id, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known is not None else self._client.create_experiment(name)
        self.id = self._client.create_run(experiment, run_name=run.name).info.run_id
        parameters = [Param(key, str(value)[:LONGEST]) for key, value in run.settings.items()]
        for start in range(0, len(parameters), MOST_PARAMETERS):
            self._client.log_batch(self.id, params=parameters[start : start + MOST_PARAMETERS])

    def add(self, numbers: Sequence[Numbers]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = list(
            chain(*([Metric(name, v, now, step) for name, v in by_name.items()] for step, by_name in numbers))
        )
        for start in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(self.id, metrics=metrics[start : start + MOST_METRICS])

    def close(self, ending: Ending) -> None:
        self._client.set_terminated(self.id, MLFLOW_STATUS[ending])


TRACKERS: Mapping[str, type[Tracker]] = dict(zip(get_args(TrackerName), (TensorBoard, WandB, MLflow), strict=True))


def check_installed(names: Sequence[str]) -> None:
    """Raises UserError if the package of a tracker is not installed."""
    for name in names:
        if find_spec(TRACKERS[name].package) is None:
            raise UserError(f"log.trackers: {name} is not installed; pip install 'mt-dnn[{TRACKERS[name].extra}]'")
