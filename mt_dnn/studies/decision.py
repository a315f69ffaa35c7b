"""Select and Search: how a study chooses settings among its cells, or looks for them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mt_dnn.section import PositiveInt, Section, Seed
from mt_dnn.studies.show import Score


class Decision(Section):
    """The score by which settings are chosen."""

    split: Literal["carved", "dev"] = Field(
        "carved", description="split that decides: carved from the training rows, or dev, as papers often do"
    )
    share: float = Field(0.2, gt=0, le=0.5, description="with carved: share of the training rows that is carved")
    metric: str | None = Field(None, description="<task> or <task>.<metric>; default: mean of all metrics and tasks")

    @field_validator("metric")
    @classmethod
    def _metric_is_a_score(cls, metric: str | None) -> str | None:
        if metric is not None:
            score = Score.parse(metric)
            if score.split is not None:
                raise ValueError(f"'{metric}' names a split; write <task> or <task>.<metric>, and the split as split")
        return metric

    @property
    def carve(self) -> dict[str, Any]:
        """The settings of a run that takes part."""
        return {"data.carve": self.share} if self.split == "carved" else {}


class Select(Decision):
    """How settings are chosen: of the cells that differ only in some axes, the best one counts."""

    over: tuple[str, ...] = Field(min_length=1, description="axes whose labels compete")
    seeds: tuple[Seed, ...] = Field((1,), min_length=1, description="seeds of the runs that decide")
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of the runs that decide, applied last")

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds_differ(cls, seeds: Any) -> Any:
        return different_seeds(seeds)


class Range(Section):
    """Numbers that a search may try. If both ends are whole numbers, all of them are."""

    low: int | float = Field(description="smallest number")
    high: int | float = Field(description="largest number")
    log: bool = Field(False, description="draw the logarithm evenly, for example of a learning rate")

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low} and high {self.high}; low has to be the smaller one")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low}; with log it has to be above 0")
        return self


class Search(Decision):
    """What ``mt-dnn search`` tries, for each cell of the study."""

    keys: dict[str, Range | tuple[str | int | float | bool, ...]] = Field(
        min_length=1, description="key of the run file → {low, high, log}, or a list of values"
    )
    trials: PositiveInt = Field(20, description="runs for each cell; with lists alone, no more than combinations")
    pruning: bool = Field(True, description="stop a run that is worse than the median of earlier ones at its epoch")
    seed: Seed = Field(1, description="seed of all runs")

    @field_validator("keys")
    @classmethod
    def _keys_have_values(cls, keys: dict[str, Any]) -> dict[str, Any]:
        for key, values in keys.items():
            if values == ():
                raise ValueError(f"{key}: give at least one value")
        return keys


def different_seeds(seeds: Any) -> Any:
    """Raises ValueError for a list of seeds that is empty or has one twice, and for true and false."""
    values = list(seeds) if isinstance(seeds, (list, tuple)) else [seeds]
    if not values or any(isinstance(value, bool) for value in values) or len(set(map(str, values))) < len(values):
        raise ValueError(f"give a number, or a list of different numbers (got {seeds})")
    return seeds
