"""Study: one YAML file that says which runs to make and which tables and figures to make of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from data_utils.errors import UserError, did_you_mean, unknown_key
from data_utils.shipped import find
from data_utils.yaml_files import read_yaml_file
from mt_dnn.runs.config_file import parse_omegaconf
from mt_dnn.section import Section, Seed, UsablePath
from mt_dnn.studies.decision import Search, Select, different_seeds
from mt_dnn.studies.show import Published, Show

# Keys of the run file that a sweep sets itself, and what to do instead.
OF_THE_SWEEP = {
    "seed": "the study sets it; use the study's key seeds",
    "name": "the sweep names runs itself; leave it out",
    "output": "the sweep names run folders itself; use --runs for the folder that they are in",
}
TASK = "task"  # this axis sets the key ``tasks`` of a run
MOST_CELLS = 100_000
SeedCount = Annotated[int, Field(gt=0, le=10_000)]
Labels = str | int | float | bool | tuple[str | int | float | bool, ...]


class CellSettings(Section):
    """Settings of the cells with certain labels."""

    when: dict[str, Labels] = Field(min_length=1, description="axis → its label, or a list of labels")
    set: dict[str, Any] = Field(description="key of the run file → value; replaces what axes have set")


class Study(Section):
    """Everything that a study file may say."""

    title: str = Field(description="heading of the table")
    note: str = Field("", description="text below the table")
    base: UsablePath = Field(description="run file that all runs start from")
    settings: dict[str, Any] = Field(default_factory=dict, description="key of the run file → value, for all runs")
    axes: dict[str, tuple[Any, ...] | dict[str, dict[str, Any]]] = Field(
        description="name → list of values, or label → settings; one cell for each combination. The axis task lists "
        "tasks, or lists of tasks that are trained together; every other list has values of the key that it is named by"
    )
    cells: tuple[CellSettings, ...] = Field((), description="settings of single cells, applied in this order")
    leave_out: tuple[dict[str, Labels], ...] = Field((), description="combinations of labels that are no cells")
    seeds: SeedCount | tuple[Seed, ...] = Field(1, description="number of seeds, from 1 on, or their list")
    select: Select | None = Field(None, description="how settings are chosen; default: nothing is chosen")
    search: Search | None = Field(None, description="what mt-dnn search tries; mt-dnn sweep does not read it")
    keep: Literal["nothing", "model", "checkpoint"] = Field(
        "nothing", description="what stays of the weights of a finished run: model, or all of its last checkpoint"
    )
    show: Show = Field(Show(), description="the table")
    published: Published | None = Field(None, description="numbers of a paper to stand beside ours")
    figures: dict[str, dict[str, Any]] = Field(default_factory=dict, description="name → what to draw")
    _file: Path | None = PrivateAttr(None)

    @field_validator("seeds", mode="before")
    @classmethod
    def _seeds_differ(cls, seeds: Any) -> Any:
        return different_seeds(seeds)

    @field_validator("axes")
    @classmethod
    def _axes_have_labels(cls, axes: dict[str, Any]) -> dict[str, Any]:
        for name, values in axes.items():
            if not values:
                raise ValueError(f"{name}: give at least one value")
            labels = [label for label, _ in axis_items(values)]
            if len(set(labels)) < len(labels):
                raise ValueError(f"{name}: a value is listed twice; keep it once")
        if (cells := math.prod(map(len, axes.values()))) > MOST_CELLS:
            raise ValueError(f"{cells:,} combinations, and a study has at most {MOST_CELLS:,}; shorten the axes")
        return axes

    @model_validator(mode="after")
    def _settings_are_of_the_study(self) -> Study:
        given = [
            ("settings", self.settings),
            ("axes", {name: None for name, values in self.axes.items() if not isinstance(values, dict)}),
            *((f"axes.{name}", s) for name, v in self.axes.items() if isinstance(v, dict) for s in v.values()),
            *(("cells: set", cell.set) for cell in self.cells),
            *(("select.settings", select.settings) for select in [self.select] if select),
            *(("search.keys", search.keys) for search in [self.search] if search),
        ]
        for location, settings in given:
            for key in OF_THE_SWEEP:
                if key in settings:
                    raise ValueError(f"{location}: {key}: {OF_THE_SWEEP[key]}")
        return self

    @model_validator(mode="after")
    def _table_can_be_made(self) -> Study:
        show = self.show
        if "time_ratio" in (show.values, *show.further) and show.reference is None:
            raise ValueError("show: time_ratio needs show.reference, whose time the others are divided by")
        if twice := [axis for axis in show.row_axes if axis == show.columns]:
            raise ValueError(f"show: {twice[0]}: is given as rows and as columns; choose")
        return self

    @model_validator(mode="after")
    def _names_exist(self) -> Study:
        named = [
            *(("cells: when", axis, labels) for cell in self.cells for axis, labels in cell.when.items()),
            *(("leave_out", axis, labels) for labels_of in self.leave_out for axis, labels in labels_of.items()),
            *(("select: over", axis, ()) for axis in (self.select.over if self.select else ())),
            *(("show", axis, ()) for axis in self.show.axes()),
        ]
        for key, axis, labels in named:
            if axis not in self.axes:
                raise ValueError(
                    f"{key}: no axis '{axis}'{did_you_mean(axis, self.axes)}; axes: {', '.join(self.axes)}"
                )
            known = [label for label, _ in axis_items(self.axes[axis])]
            for label in as_labels(labels):
                if label not in known:
                    raise ValueError(f"{key}: {axis}: no label '{label}'{did_you_mean(label, known)}")
        return self

    def model_post_init(self, context: Any) -> None:
        self._file = context

    @property
    def location(self) -> str:
        """What messages about the study begin with: its file, or its title if it is from no file."""
        return self.title if self._file is None else str(self._file)

    @property
    def seed_list(self) -> tuple[int, ...]:
        return tuple(range(1, self.seeds + 1)) if isinstance(self.seeds, int) else self.seeds


def study_schema() -> dict[str, Any]:
    """Makes the JSON Schema of study files. Schemas that it refers to are under ``$defs``."""
    schema = Study.model_json_schema()
    schema["properties"]["profiles"] = {
        "type": "object",
        "description": "name → keys of the study that mt-dnn sweep STUDY --profile NAME replaces",
        "additionalProperties": {"type": "object", "propertyNames": {"enum": sorted(Study.model_fields)}},
    }
    return schema


def load_study(path: Path, profile: str | None = None) -> Study:
    """Reads a study file.

    Args:
        profile: a name under the key ``profiles``. Its ``settings`` and ``axes`` replace those of the file one by one,
            every other key replaces the key of the file. An axis that is null there is removed.

    Raises:
        UserError: the file cannot be read, or a key is unknown or wrong. The message names file and key.
    """
    path = find(path)
    content = _read_yaml(path)
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: a study file is a mapping of keys to values, such as 'base: experiments/glue/run.yml'"
        )
    profiles = content.pop("profiles", None) or {}
    if not isinstance(profiles, dict) or not all(isinstance(values, dict) for values in profiles.values()):
        raise UserError(f"{path}: profiles: write a mapping from names to keys of the study")
    if profile is not None:
        if profile not in profiles:
            known = ", ".join(map(str, profiles)) or "none"
            raise UserError(
                f"{path}: profiles: no profile '{profile}'{did_you_mean(profile, profiles)}; known: {known}"
            )
        content = _with_profile(content, profiles[profile], f"{path}: profiles.{profile}")
    try:
        return Study.model_validate(content, context=path)
    except ValidationError as error:
        raise _located(path, content, error) from None


def _keys(content: Any, location: Sequence[int | str], kind: str) -> list[str]:
    """The keys of the file that lead to a problem, without what pydantic calls the types on the way."""
    keys: list[str] = []
    value: Any = content
    for number, key in enumerate(location):
        if key in value if isinstance(value, Mapping) else isinstance(value, list) and isinstance(key, int):
            value = value[key]
            keys.append(str(key))
        elif kind == "missing" and number == len(location) - 1:
            keys.append(str(key))
    return keys


def _read_yaml(path: Path) -> Any:
    """The content of a YAML file. Numbers are read as in run files: ``5e-5`` is a number."""
    return read_yaml_file(path, parse_omegaconf, "study file")


def axis_items(values: Mapping[str, Any] | tuple[Any, ...]) -> list[tuple[str, Any]]:
    """The labels of an axis, each with its settings, or with its value where the axis is a list."""
    return list(values.items()) if isinstance(values, Mapping) else [(as_label(value), value) for value in values]


def as_label(value: Any) -> str:
    """The label of a value: its text, and for a list the texts of its items, joined by ``+``."""
    if isinstance(value, (list, tuple)):
        return "+".join(map(as_label, value))
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def as_labels(given: Labels) -> list[str]:
    return [as_label(value) for value in given] if isinstance(given, tuple) else [as_label(given)]


def _with_profile(content: dict[str, Any], changes: dict[str, Any], location: str) -> dict[str, Any]:
    merged = {**content, **changes}
    for key in ("settings", "axes"):
        if key in changes:
            below, above = content.get(key) or {}, changes[key] or {}
            if not isinstance(below, dict) or not isinstance(above, dict):
                raise UserError(f"{location}: {key}: write a mapping")
            merged[key] = {name: value for name, value in {**below, **above}.items() if value is not None}
    return merged


def _located(path: Path, content: Any, error: ValidationError) -> UserError:
    problems = error.errors()
    located = [_keys(content, problem["loc"], problem["type"]) for problem in problems]
    # A value of several types has a problem for each of them. That of the type that fits best is the deepest.
    number = max(range(len(problems)), key=lambda n: len(located[n]) if located[n][:2] == located[0][:2] else 0)
    problem, keys = problems[number], located[number]
    message = problem["msg"].removeprefix("Value error, ")
    message = message.replace("valid tuple", "list").replace("valid dictionary", "mapping")
    if problem["type"] == "extra_forbidden" and len(keys) == 1:
        return unknown_key(str(path), keys[0], [*Study.model_fields, "profiles"])
    if problem["type"] == "missing":
        return UserError(f"{path}: missing key '{'.'.join(keys)}'")
    return UserError(f"{path}: {'.'.join(keys)}: {message}" if keys else f"{path}: {message}")
