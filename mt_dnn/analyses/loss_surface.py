"""The training loss around a model, and between two models (Li et al. 2018; Pereira et al. 2021, figure 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from data_utils.errors import UserError
from data_utils.prepared import Prepared
from mt_dnn.analyses.answers import NamedRun, Record
from mt_dnn.batches.collate import collate
from mt_dnn.batches.draws import seed_of
from mt_dnn.inference.evaluation import read_splits
from mt_dnn.inference.trained import TrainedModel
from mt_dnn.runs.build import build_passes
from mt_dnn.tasks.losses import task_loss

Weights = Mapping[str, Tensor]
SPLIT = "train"


class Landscape:
    """The mean loss of a task on a sample of training rows, as a function of the weights of a model. No dropout.

    Args:
        model: a trained model. Its weights are changed while a loss is computed, and are set back afterwards.
        rows: the size of the sample. It is drawn with ``seed``; if there are fewer rows, all are taken.

    Raises:
        UserError: the model was not trained on the task, or the rows have no labels.
    """

    def __init__(self, model: TrainedModel, task: str, *, rows: int, seed: int) -> None:
        self.model, self.task = model, model.task(task)
        if task not in model.trained:
            raise UserError(f"{model.run}: was not trained on {task}; choose one of {', '.join(model.trained)}")
        split = read_splits(model.config, [(self.task, SPLIT)], model.tokenizer)[0].get((task, SPLIT))
        if split is None or split.labels is None:
            raise UserError(f"{model.config.data.dir}: no labelled training rows of {task}")
        self.split: Prepared = split
        order = np.random.default_rng(seed).permutation(len(split))
        self.rows = np.sort(order[:rows])
        self.weights: Weights = {
            name: weight
            for name, weight in model.model.named_parameters()
            if not name.startswith("heads.") or name.startswith(f"heads.{self.task.head or task}.")
        }
        self.center = {name: weight.detach().clone() for name, weight in self.weights.items()}

    def loss(self) -> float:
        """The mean loss with the present weights."""
        losses = [self._losses(self.rows[numbers]) for numbers in self._batches()]
        return float(np.concatenate(losses).mean(dtype=np.float64))

    def at(self, steps: Iterable[tuple[float, Weights]]) -> float:
        """The mean loss at θ + Σ a·d, where θ are the weights of the model. ``steps``: pairs (a, d)."""
        try:
            with torch.no_grad():
                for name, weight in self.weights.items():
                    weight.copy_(self.center[name])
                for scale, direction in steps:
                    for name, part in direction.items():
                        self.weights[name].add_(part, alpha=scale)
            return self.loss()
        finally:
            with torch.no_grad():
                for name, weight in self.weights.items():
                    weight.copy_(self.center[name])

    def _batches(self) -> list[np.ndarray]:
        return build_passes(self.model.config, self._device).batches(self.split.lengths[self.rows])

    @property
    def _device(self) -> torch.device:
        return next(self.model.model.parameters()).device

    @torch.inference_mode()
    def _losses(self, rows: np.ndarray) -> np.ndarray:
        batch = collate(self.split, rows, task=self.task.name).to(self._device)
        assert batch.labels is not None
        logits = self.model.model.units(self.task.name).to_user(self.model.model(batch))
        return batch.example_means(task_loss(self.task, logits, batch.labels, reduction="none")).cpu().numpy()


def random_direction(center: Weights, seed: int) -> dict[str, Tensor]:
    """A random direction in which every filter is as long as that of the model (Li et al. 2018, section 4).

    d ~ N(0, I); d_ij ← d_ij · ‖θ_ij‖/‖d_ij‖ for row j of each matrix i. Biases and weights of LayerNorm stay as they
    are, as in the paper. A row of zeros stays zero.
    """
    direction: dict[str, Tensor] = {}
    for number, (name, weight) in enumerate(center.items()):
        if weight.dim() < 2:
            continue
        generator = torch.Generator().manual_seed(seed_of(seed, number))
        noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype).to(weight.device)
        rows = weight.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
        direction[name] = noise * rows.reshape(-1, *[1] * (weight.dim() - 1))
    return direction


def difference(here: Weights, there: Weights, run: NamedRun) -> dict[str, Tensor]:
    """The direction from one model to another. Raises UserError if their weights have other names or shapes."""
    if {name: w.shape for name, w in here.items()} != {name: w.shape for name, w in there.items()}:
        raise UserError(f"{run.folder}: has other weights than the first run; give runs with the same encoder and task")
    return {name: there[name] - weight for name, weight in here.items()}


def loss_surface(
    runs: Sequence[tuple[NamedRun, TrainedModel]],
    task: str,
    *,
    points: int = 21,
    extent: float = 1.0,
    rows: int = 256,
    seed: int = 0,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Record:
    """The training loss on a square around each run, and on the line from the first run to the second.

    Args:
        points: how many values each coordinate has, from −extent to extent. An odd number contains the run itself.
        extent: 1 moves each filter by its length.
        seed: of the sample and of the two directions.
        progress: shows how far it is, by wrapping the numbers of the points.

    Raises:
        UserError: as ``Landscape`` and ``difference`` do.
    """
    landscapes = [Landscape(model, task, rows=rows, seed=seed) for _, model in runs]
    axis = np.linspace(-extent, extent, points).tolist()
    surfaces = []
    for (run, _), landscape in zip(runs, landscapes, strict=True):
        first, second = (random_direction(landscape.center, seed_of(seed, number)) for number in (1, 2))
        losses = [
            landscape.at([(axis[number // points], first), (axis[number % points], second)])
            for number in progress(range(points * points))
        ]
        surfaces.append(
            {
                "name": run.name,
                "run": str(run.folder),
                "loss": landscape.loss(),
                "losses": [
                    list(map(_finite, losses[start : start + points])) for start in range(0, len(losses), points)
                ],
            }
        )
    record = {"kind": "loss_surface", "task": task, "rows": len(landscapes[0].rows), "seed": seed, "axis": axis}
    line = _line(runs, landscapes, points, progress) if len(runs) == 2 else None
    return {**record, "surfaces": surfaces, "line": line}


def _line(
    runs: Sequence[tuple[NamedRun, TrainedModel]],
    landscapes: Sequence[Landscape],
    points: int,
    progress: Callable[[Iterable[int]], Iterable[int]],
) -> Record:
    """The loss at (1 − t)·θ_A + t·θ_B for t from −½ to 1½."""
    direction = difference(landscapes[0].center, landscapes[1].center, runs[1][0])
    positions = np.linspace(-0.5, 1.5, 2 * points - 1).tolist()
    losses = [landscapes[0].at([(positions[number], direction)]) for number in progress(range(len(positions)))]
    return {"positions": positions, "losses": list(map(_finite, losses))}


def _finite(value: float) -> float | None:
    """The value for JSON, which has neither NaN nor infinity: null stands for them."""
    return value if math.isfinite(value) else None
