"""Learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from pydantic import Field, model_validator
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mt_dnn.section import Section


class ScheduleConfig(Section):
    """The learning-rate schedule over the updates of the run."""

    name: Literal["linear", "cosine", "constant", "polynomial"] = Field(
        "linear", description="shape after the warm-up; all but constant end at 0"
    )
    warmup_fraction: float = Field(0.1, ge=0, le=1, description="share of all updates in which the rate rises from 0")
    power: float = Field(1.0, gt=0, description="polynomial only: the exponent")

    @model_validator(mode="after")
    def _all_read(self) -> ScheduleConfig:
        self._refuse_unread(self.name, {"power"}, {"power"} if self.name == "polynomial" else set())
        return self


# The factor on the learning rate after the warm-up, from (x, power); x falls from 1 to 0 over the remaining updates.
SHAPES: dict[str, Callable[[float, float], float]] = {
    "linear": lambda x, power: x,
    "cosine": lambda x, power: (1 - math.cos(math.pi * x)) / 2,
    "constant": lambda x, power: 1.0,
    "polynomial": lambda x, power: x**power,
}


def build_schedule(optimizer: Optimizer, config: ScheduleConfig, total_steps: int) -> LambdaLR:
    """Builds the schedule: a linear warm-up from 0 over ``warmup_fraction`` of the updates, then the shape.

    Args:
        total_steps: updates of the run. After the last one x is 0.
    """
    warmup = round(config.warmup_fraction * total_steps)

    def factor(step: int) -> float:
        if step < warmup:
            return step / warmup
        remaining = (total_steps - step) / max(total_steps - warmup, 1)
        return SHAPES[config.name](max(remaining, 0.0), config.power)

    return LambdaLR(optimizer, factor)
