"""The sampling strategies: how many micro-batches of each task an epoch takes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from data_utils.errors import UserError, did_you_mean
from mt_dnn.section import PositiveInt, Section


class SamplingConfig(Section):
    """Settings that say how many batches of each task an epoch takes."""

    strategy: Literal["proportional", "uniform", "temperature", "annealed", "weights", "mtdnn"] = Field(
        "proportional", description="how batches are shared out; proportional reads every row once per epoch"
    )
    temperature: float = Field(1.0, ge=0.1, description="strategy temperature: probability ~ rows^(1/temperature)")
    size_cap: PositiveInt | None = Field(
        None, description="strategies temperature and annealed: count at most this many rows of a task"
    )
    weights: dict[str, float] = Field(
        default_factory=dict, description="strategy weights: the probability of each task, on any scale"
    )
    mix_opt: Literal[0, 1] = Field(
        0, description="strategy mtdnn: 0 shuffles all tasks, 1 leaves the first task for the end"
    )
    ratio: float = Field(
        0.0, ge=0, description="strategy mtdnn: batches of the other tasks per batch of the first task; 0: all"
    )

    @model_validator(mode="after")
    def _all_read(self) -> SamplingConfig:
        reads = {
            "temperature": {"temperature", "size_cap"},
            "annealed": {"size_cap"},
            "weights": {"weights"},
            "mtdnn": {"mix_opt", "ratio"},
        }
        keys = {"temperature", "size_cap", "weights", "mix_opt", "ratio"}
        self._refuse_unread(self.strategy, keys, reads.get(self.strategy, set()))
        return self

    @property
    def takes_whole_passes(self) -> bool:
        """True if every epoch takes one pass over each task. Otherwise the numbers of batches are drawn."""
        return self.strategy == "proportional" or (self.strategy == "mtdnn" and self.ratio == 0)


def epoch_batches(
    sizes: Mapping[str, int],
    passes: Mapping[str, int],
    *,
    config: SamplingConfig,
    seed: int,
    epoch: int,
    epochs: int,
) -> dict[str, int]:
    """How many batches of each task an epoch takes.

    `proportional` takes one pass over each task. The strategies with a probability p per task take as many batches as
    one pass over all tasks has. Each task gets this number times p, rounded up or down at random so that the mean is
    exact (systematic sampling).

    Args:
        sizes: training rows of each task.
        passes: batches in one pass over each task.

    Raises:
        UserError: the sampling weights do not fit the tasks.
        ValueError: ``epoch`` is not one of the ``epochs``.
    """
    if not 0 <= epoch < epochs:
        raise ValueError(f"epoch {epoch} of {epochs}")
    if config.strategy == "proportional":
        return dict(passes)
    rng = generator_of(seed, "batches", epoch)
    if config.strategy == "mtdnn":
        return _mtdnn_batches(passes, config.ratio, rng)
    edges = np.cumsum(list(probabilities(sizes, config=config, epoch=epoch, epochs=epochs).values()))
    marks = np.floor(edges / edges[-1] * sum(passes.values()) + rng.random()).astype(int)
    marks[-1] = sum(passes.values())  # also where the sum above was rounded up
    return dict(zip(sizes, np.diff(marks, prepend=0).tolist(), strict=True))


def probabilities(sizes: Mapping[str, int], *, config: SamplingConfig, epoch: int, epochs: int) -> dict[str, float]:
    """The probability that a batch comes from each task. N is the number of its rows, N' = min(N, ``size_cap``).

    `uniform`: equal. `weights`: as given, scaled so that the sum is 1.
    `temperature`: p ∝ N'^(1/T) (Raffel et al. 2020).
    `annealed`: p ∝ N'^α with α = 1 − 0.8·(e−1)/(E−1) in epoch e of E (Stickland & Murray 2019).
    """
    annealed = 1 - 0.8 * epoch / max(epochs - 1, 1)
    powers = {"uniform": 0.0, "temperature": 1 / config.temperature, "annealed": annealed}
    if config.strategy == "weights":
        shares = _weights(sizes, config.weights)
    else:
        capped = {task: min(rows, config.size_cap or rows) for task, rows in sizes.items()}
        shares = {task: rows ** powers[config.strategy] for task, rows in capped.items()}
    scale = sum(shares.values())
    return {task: share / scale for task, share in shares.items()}


def _mtdnn_batches(passes: Mapping[str, int], ratio: float, rng: np.random.Generator) -> dict[str, int]:
    """All batches of the first task. With ``ratio`` 0 also all batches of the others.

    Otherwise ``ratio`` times as many batches as the first task has are drawn at random from the others.
    """
    main, *others = passes
    if not ratio or not others:
        return dict(passes)
    available = [passes[task] for task in others]
    picks = min(int(passes[main] * ratio), sum(available))
    drawn = rng.multivariate_hypergeometric(available, picks, method="marginals")
    return {main: passes[main], **dict(zip(others, drawn.tolist(), strict=True))}


def _weights(sizes: Mapping[str, int], weights: Mapping[str, float]) -> Mapping[str, float]:
    for task in weights:
        if task not in sizes:
            raise UserError(f"sampling.weights: '{task}' is not a training task{did_you_mean(task, sizes)}")
    if missing := [task for task in sizes if task not in weights]:
        raise UserError(f"sampling.weights: no weight for {', '.join(missing)}; give 0 to leave a task out")
    if any(not 0 <= weight < np.inf for weight in weights.values()) or not any(weights.values()):
        raise UserError("sampling.weights: weights are numbers from 0 upwards, at least one above 0")
    return {task: weights[task] for task in sizes}


def generator_of(*key: object) -> np.random.Generator:
    """Makes a random generator for a key. The key is hashed, so that neighbouring seeds and epochs are unrelated."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:16], "little"))
