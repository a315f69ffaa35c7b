"""What a colleague would say of a finished run: signs that a model or an adversary has learnt or done nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from data_utils.metrics import METRICS
from mt_dnn.runs.config import RunConfig
from mt_dnn.tasks.base import Decoded

FLOOR = 1.1  # a regulariser below this multiple of its dropout floor does nothing that dropout does not
SMALL = 0.01  # a perturbation below this share of what it is added to is worth a look


def predicts_constant(decoded: Decoded) -> bool:
    """Whether a model has given the same answer to every decision of a split, and there are several."""
    predictions = decoded.predictions
    return len(predictions) > 1 and all(np.array_equal(first, predictions[0]) for first in predictions)


def score_notes(results: Sequence[Mapping[str, Any]], constant: Sequence[str]) -> Iterator[str]:
    """Yields a line for each split where the model is no better than a constant answer.

    Args:
        results: entries of ``runs.evaluate.result``.
        constant: the names of the splits, as ``rte (dev)``, whose answers are all the same.
    """
    for found in results:
        name = f"{found['task']} ({found['split']})"
        if name in constant:
            yield f"{name}: every answer is the same; try a smaller optimizer.lr, a longer warm-up or more epochs"
            continue
        values = {metric: value for metric, value in found["scores"].items() if isinstance(value, float)}
        if values and all(
            METRICS[metric].best([value, found["baseline"][metric]]) == found["baseline"][metric]
            for metric, value in values.items()
        ):
            yield f"{name}: no score is better than that of the best constant answer, the column baseline"


def adversary_notes(mode: str, figures: Mapping[str, float]) -> Iterator[str]:
    """Yields a line if the perturbation of a run did hardly anything.

    Args:
        mode: the adversarial mode.
        figures: means of its figures over the run.
    """
    ratio = figures.get("delta_ratio")
    if ratio is None:  # the mode has no perturbation
        return
    size = f"δ is {ratio:.2g} of what it is added to (delta_ratio)"
    if at_floor(figures):
        yield (
            f"{mode}: the regulariser ({measured_regularizer(figures):.3g}) is no more than dropout alone causes "
            f"(dropout_floor {figures['dropout_floor']:.3g}); {size}. Raise adversary.radius or adversary.step_size "
            "until delta_ratio is 0.02 to 0.1, or use rdrop, which costs less"
        )
    elif ratio < SMALL and not figures.get("dropout_floor"):
        yield f"{mode}: {size}, which is little; if the scores are those of plain training, raise adversary.step_size"


def at_floor(figures: Mapping[str, float]) -> bool:
    """Whether a regulariser is no more than what dropout alone causes. False if the figures do not say."""
    ratio = over_floor(figures)
    return ratio is not None and ratio <= FLOOR


def over_floor(figures: Mapping[str, float]) -> float | None:
    """The regulariser divided by its dropout floor, both of the same updates. None if the figures do not say."""
    floor, regularizer = figures.get("dropout_floor"), measured_regularizer(figures)
    return regularizer / floor if floor and regularizer is not None else None


def measured_regularizer(figures: Mapping[str, float]) -> float | None:
    """The regulariser at the updates that measured the dropout floor. None if the figures do not say.

    Figures of older versions have the regulariser of all updates only, which is larger once a model has learnt.
    """
    return figures.get("measured_regularizer", figures.get("regularizer"))


def schedule_notes(config: RunConfig, steps: int, planned: int) -> Iterator[str]:
    """Yields a line if a run ended while its learning rate was still rising."""
    warmup = round(config.schedule.warmup_fraction * planned)
    if 0 < steps <= warmup:
        yield (
            f"the run ended after {steps} of {warmup} updates of warm-up, so the learning rate never reached "
            "optimizer.lr; lower schedule.warmup_fraction, or raise evaluation.patience"
        )
