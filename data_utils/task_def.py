"""TaskDef: the definition of a task. The loader refuses unknown keys. It also reads files of the old MT-DNN."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, model_validator

from data_utils.column_names import check_files, check_mapping
from data_utils.entities import ENTITY
from data_utils.errors import UserError, did_you_mean, listed, shown, unknown_key
from data_utils.files import replacing
from data_utils.metrics import find_metric
from data_utils.old_mtdnn import OLD_IGNORED, OLD_KEYS, OLD_VALUES, adapt
from data_utils.shipped import find
from data_utils.task_types import DATA_FORMATS, DIVERGENCES, LOSSES, TASK_TYPES, TaskType
from data_utils.task_yaml import read_tasks, written_text


def check_metrics(task: TaskDef) -> None:
    """Raises UserError for a metric that is unknown or does not fit the task's type or its labels."""
    fitting = TASK_TYPES[task.task_type].metrics
    for name in task.metrics:
        metric = find_metric(name, task.name)
        named = f"{task.name}: metric '{name}'"
        if name not in fitting:
            raise UserError(f"{named} does not fit {_a(task.task_type)} task, use one of {', '.join(fitting)}")
        if metric.binary and task.n_class != 2:
            raise UserError(f"{named} needs 2 classes, the task has {task.n_class}, try f1_macro")
        if metric.entities and (other := [label for label in task.labels if not ENTITY.fullmatch(label)]):
            raise UserError(f"{named} needs labels as O, B-PER, I-PER or O, B, I, not '{other[0]}'; try accuracy")


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


NAME = r"^[A-Za-z0-9_-]+$"  # names of tasks and splits are parts of file names
Name = Annotated[str, Field(pattern=NAME, max_length=80)]
MOST_CLASSES = 100_000


class TaskDef(BaseModel):
    """The definition of one task. ``task_schema.py`` says what its fields mean, ``TASK_TYPES`` what fits a type."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Name
    task_type: Literal[tuple(TASK_TYPES)]  # type: ignore[valid-type]
    data_format: Literal[tuple(DATA_FORMATS)]  # type: ignore[valid-type]
    labels: tuple[str, ...] = ()
    metrics: tuple[str, ...] = Field(min_length=1)
    loss: Literal[LOSSES]  # type: ignore[valid-type]
    kd_loss: Literal[DIVERGENCES]  # type: ignore[valid-type]
    adv_loss: Literal[DIVERGENCES]  # type: ignore[valid-type]
    dropout: float | None = Field(None, ge=0, lt=1)
    enable_san: bool = False
    crf: bool = False
    splits: tuple[Name, ...] = Field(("train", "dev", "test"), min_length=1)
    head: str | None = None
    label_map: dict[str, str] = Field(default_factory=dict)
    value_range: tuple[float, float] | None = None
    no_answer: bool = False
    constant_test_labels: bool = False
    class_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    loss_weight: PositiveFloat = 1.0
    lr_scale: PositiveFloat = 1.0
    columns: dict[str, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    files: dict[str, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)

    @property
    def type(self) -> TaskType:
        """The entry of the task type in ``TASK_TYPES``."""
        return TASK_TYPES[self.task_type]

    @property
    def n_class(self) -> int:
        """Number of classes; 1 where a task has none."""
        return len(self.labels) or 1

    @property
    def weights(self) -> tuple[float, ...] | None:
        """The weight of each class in the loss, 1 where ``class_weights`` names none. None if it is empty."""
        return tuple(self.class_weights.get(label, 1.0) for label in self.labels) if self.class_weights else None

    @property
    def trainable(self) -> bool:
        return "train" in self.splits

    @property
    def dev_splits(self) -> tuple[str, ...]:
        """The splits that are scored while training."""
        return tuple(split for split in self.splits if "dev" in split or "validation" in split)

    @model_validator(mode="after")
    def _consistent(self) -> TaskDef:
        for field in ("labels", "splits", "metrics"):
            values = getattr(self, field)
            if len(set(values)) < len(values):
                raise ValueError(f"{field}: something is listed twice; keep it once: {listed(values)}")
        self._check_type()
        check_mapping(self.columns, self.data_format, self.type.answer)
        check_files(self.files, self.splits)
        if self.enable_san and self.data_format != "pair":
            raise ValueError("enable_san: the SAN head reads pairs of sentences; set it to false")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError("value_range: give the lower number first")
        if self.head is not None and self.dropout is not None:
            raise ValueError("dropout: belongs to the task whose head this one reads; leave it out")
        if self.label_map and self.head is None:
            raise ValueError("label_map: needs head, the task whose labels are mapped")
        for label in self.class_weights:
            if label not in self.labels:
                raise ValueError(f"class_weights: '{label}' is not one of its labels{did_you_mean(label, self.labels)}")
        if self.weights is not None and not any(self.weights):
            raise ValueError("class_weights: all are 0, so nothing would be learnt; give one label more than 0")
        if (self.class_weights or self.label_smoothing) and not self.trainable:
            raise ValueError("class_weights, label_smoothing: no train split reads them; leave them out")
        return self

    def _check_type(self) -> None:
        """Raises ValueError for a field that does not fit the task type."""
        named, kind = _a(self.task_type), self.type
        if self.labels and not kind.least_labels:
            raise ValueError(f"labels: {named} task has none; {kind.labels_hint}")
        if len(self.labels) < kind.least_labels:
            raise ValueError(f"labels: {named} task needs at least {kind.least_labels}; {kind.labels_hint}")
        if self.data_format not in kind.formats:
            raise ValueError(f"data_format: {named} task takes {' or '.join(kind.formats)}")
        for field in dict.fromkeys(field for other in TASK_TYPES.values() for field in other.fields):
            if getattr(self, field) and field not in kind.fields:
                fitting = " or ".join(name for name, other in TASK_TYPES.items() if field in other.fields)
                raise ValueError(f"{field}: only {_a(fitting)} task has it; leave it out")
        for field, names in (("loss", kind.losses), ("kd_loss", kind.divergences), ("adv_loss", kind.divergences)):
            if (value := getattr(self, field)) not in names:
                raise ValueError(f"{field}: {value} does not fit {named} task, use {' or '.join(names)}")


def load_task_defs(path: Path | str, known: Mapping[str, TaskDef] | None = None) -> dict[str, TaskDef]:
    """Reads a task file. Returns its tasks by name, in the order of the file, after those that it extends.

    ``known``: other tasks, whose heads the tasks of the file may read.

    Raises:
        UserError: the file is not readable, or a task is wrong: ``file: task: what is wrong, remedy``.
    """
    path = find(path)
    content, files = read_tasks(path)
    names = {key: written_text(str(files[key]), "task name", key) for key in content}
    defs = {name: _task(f"{files[key]}: {name}", name, content[key]) for key, name in names.items()}
    for task in defs.values():
        _check_head(f"{path}: {task.name}", task, {**(known or {}), **defs})
    _check_file_names(path, defs)
    return defs


def dump_task_defs(defs: Mapping[str, TaskDef], path: Path) -> None:
    """Writes tasks so that ``load_task_defs`` reads them back."""
    content = {name: task.model_dump(mode="json", exclude={"name"}, exclude_none=True) for name, task in defs.items()}
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _check_file_names(path: Path, defs: Mapping[str, TaskDef]) -> None:
    """Raises UserError if two splits have the same file name: ``dev_x`` of task ``same``, and ``x`` of ``same_dev``."""
    owners: dict[str, str] = {}
    for task in defs.values():
        for split in task.splits:
            name = f"{task.name}_{split}"
            if name in owners:
                raise UserError(
                    f"{path}: {task.name}: split {split} has the same file name, {name}, as a split of task "
                    f"{owners[name]}; rename one of the tasks or splits"
                )
            owners[name] = task.name


def _task(location: str, name: str, values: Any) -> TaskDef:
    if not isinstance(values, dict):
        raise UserError(f"{location}: write a mapping of keys to values")
    known = [field for field in TaskDef.model_fields if field != "name"]
    fields: dict[str, Any] = {}
    for key, value in values.items():
        if key in OLD_IGNORED or value is None:
            continue
        name_now = OLD_KEYS.get(key, str(key))
        if name_now not in (*known, "n_class"):
            raise unknown_key(location, key, [*known, "n_class"])
        if name_now in fields:
            raise UserError(f"{location}: {name_now}: given twice, once as '{key}'; keep one")
        fields[name_now] = _current(location, name_now, value)
    adapt(fields, values)
    kind = TASK_TYPES.get(str(fields.get("task_type")))
    has_labels = kind is not None and kind.least_labels > 0
    n_class = fields.pop("n_class", None)
    if n_class is not None and (type(n_class) is not int or not 1 <= n_class <= MOST_CLASSES):
        raise UserError(f"{location}: n_class: write a whole number from 1 to {MOST_CLASSES} (got {shown(n_class)})")
    if has_labels and "labels" not in fields:
        fields["labels"] = tuple(str(i) for i in range(n_class or 2))
    try:
        task = TaskDef.model_validate({**(kind.defaults if kind else {}), **fields, "name": name})
        check_metrics(task)
    except ValidationError as error:
        raise UserError(f"{location}: {_problem(error)}") from None
    except UserError as error:
        raise UserError(f"{location.rpartition(': ')[0]}: {error}") from None
    if has_labels and n_class not in (None, task.n_class):
        raise UserError(f"{location}: n_class: {n_class}, but there are {task.n_class} labels")
    return task


def _current(location: str, key: str, value: Any) -> Any:
    """The value of a key, with old spellings translated. Refuses labels that YAML does not read as text."""
    text = partial(written_text, location, key)
    if key == "labels" and isinstance(value, list):
        return tuple(map(text, value))
    if key == "class_weights" and isinstance(value, dict):
        return {text(label): weight for label, weight in value.items()}
    if key in ("label_map", "columns", "files") and isinstance(value, dict):
        return {text(theirs): text(ours) for theirs, ours in value.items()}
    if key == "metrics":
        return tuple(value) if isinstance(value, list) else value
    old = OLD_VALUES.get("divergence" if key in ("kd_loss", "adv_loss") else key, {})
    value = old.get(value, value) if isinstance(value, str) else value
    if key in ("task_type", "data_format") and isinstance(value, str):
        allowed = [*(TASK_TYPES if key == "task_type" else DATA_FORMATS)]
        if value not in allowed:
            problem = f"{key.replace('_', ' ')} '{value}' is not supported by this version ({', '.join(allowed)})"
            raise UserError(f"{location}: {problem}{did_you_mean(value, [*old, *allowed])}")
    return value


def _problem(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"missing key '{key}'"
    message = first["msg"].removeprefix("Value error, ")
    return f"{key}: {message} (got {shown(first['input'])})" if key else message


def _check_head(location: str, task: TaskDef, defs: Mapping[str, TaskDef]) -> None:
    """Raises UserError if a task reads a head that does not exist, is not trained, or does not fit its labels."""
    if task.head is None:
        return
    owner = defs.get(task.head)
    owners = [name for name, other in defs.items() if other.trainable and other.head is None]
    if owner is None or task.head not in owners:
        hint = did_you_mean(task.head, owners) or f" (known: {', '.join(owners)})"
        raise UserError(f"{location}: head: no trained task '{task.head}' that owns its head{hint}")
    if owner.task_type != task.task_type:
        types = f"is {_a(owner.task_type)} task, this one is {_a(task.task_type)} task"
        raise UserError(f"{location}: head: '{task.head}' {types}; both must be the same")
    for key in ("enable_san", "crf"):
        if getattr(owner, key) != getattr(task, key):
            raise UserError(f"{location}: {key}: differs from '{task.head}', whose head it reads; set both alike")
    if task.trainable and owner.no_answer != task.no_answer:
        raise UserError(f"{location}: no_answer: differs from '{task.head}', but both train one head; set both alike")
    if not task.label_map:
        if owner.labels != task.labels:
            raise UserError(f"{location}: labels: differ from the labels of '{task.head}'; add label_map")
        return
    if missing := [label for label in owner.labels if label not in task.label_map]:
        raise UserError(f"{location}: label_map: add {listed(missing)}, which '{task.head}' has")
    for theirs, ours in task.label_map.items():
        if theirs not in owner.labels or ours not in task.labels:
            raise UserError(f"{location}: label_map: '{theirs}: {ours}' maps from or to a label that does not exist")
    if task.trainable and tuple(task.label_map[label] for label in owner.labels) != task.labels:
        raise UserError(
            f"{location}: label_map: a training task needs one label for each label of '{task.head}', in the same order"
        )
