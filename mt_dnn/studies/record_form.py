"""The form of a record: which keys it has and what their values are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from data_utils.errors import UserError, shown
from data_utils.metrics import METRICS
from mt_dnn.section import NonNegativeInt


def _folder_name(name: str) -> str:
    if name in (".", ".."):
        raise ValueError("is no name of a run folder")
    return name


Form = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)  # other versions write further keys
Number = Annotated[float, Field(strict=True)]
Name = Annotated[StrictStr, Field(min_length=1)]
RunName = Annotated[StrictStr, Field(pattern=r"^[\w.-]+$", max_length=255), AfterValidator(_folder_name)]


class Result(BaseModel):
    """The scores of a split. ``baseline``: those of the best constant."""

    model_config = Form
    task: Name
    split: Name
    scores: dict[str, Any]
    baseline: dict[str, Any]

    @model_validator(mode="after")
    def _scores_are_numbers(self) -> Result:
        for kind, values in (("scores", self.scores), ("baseline", self.baseline)):
            for name, value in values.items():
                if name not in METRICS:
                    raise ValueError(f"{kind}: '{name}' is no metric")
                if METRICS[name].scalar and (isinstance(value, bool) or not isinstance(value, int | float)):
                    raise ValueError(f"{kind}.{name}: {shown(value)} is no number")
        if missing := sorted(self.scores.keys() - self.baseline.keys()):
            raise ValueError(f"baseline: has no '{missing[0]}'")
        return self


class Machine(BaseModel):
    """Where a run was made."""

    model_config = Form
    processor: StrictStr = "unknown"
    threads: Annotated[StrictInt, Field(gt=0)] = 1
    device: StrictStr = ""


class Predictions(BaseModel):
    """Which predictions a run has written."""

    model_config = Form
    splits: StrictStr
    text: StrictBool


class RecordForm(BaseModel):
    """A record. One of a failed run has ``error``, and one of a finished run has ``results``."""

    model_config = Form
    run: RunName
    id: Name
    settings_id: Name
    tasks: list[Name]
    settings: dict[str, Any]
    mode: StrictStr = ""
    seed: StrictInt = 0
    data: dict[str, StrictStr] = {}
    encoder: dict[str, StrictStr] = {}
    versions: dict[str, StrictStr] = {}
    commit: StrictStr = ""
    machine: Machine = Machine()
    results: list[Result] = []
    figures: dict[str, Number] = {}
    predictions: Predictions | None = None
    steps: NonNegativeInt = 0
    selected_step: NonNegativeInt = 0
    seconds: Annotated[Number, Field(ge=0)] = 0.0
    cpu_seconds: Annotated[Number, Field(ge=0)] = 0.0
    error: StrictStr = ""
    attempts: NonNegativeInt = 1


class SpentForm(BaseModel):
    """What is known of the attempts of a run that is not finished, see ``mt_dnn.studies.attempts``."""

    model_config = Form
    seconds: Annotated[Number, Field(ge=0)] = 0.0
    cpu_seconds: Annotated[Number, Field(ge=0)] = 0.0
    cut_off: NonNegativeInt = 0
    errors: list[StrictStr] = []
    process: StrictStr | None = None
    since: Annotated[Number, Field(ge=0)] = 0.0


def check_record(record: Mapping[str, Any], location: str, remedy: str) -> None:
    """Checks the keys and values of a record. Messages begin with ``location`` and end with ``remedy``.

    Raises:
        UserError: a key is missing, or has a wrong value.
    """
    needed = ("run", "id", "settings_id", "settings", "tasks", *(() if "error" in record else ("results",)))
    if missing := [key for key in needed if key not in record]:
        raise UserError(f"{location}: is no record of a run (it has no '{missing[0]}'); {remedy}")
    check_form(RecordForm, record, location, remedy)
    encoder = record["settings"].get("encoder", {})
    if not isinstance(encoder, Mapping) or not isinstance(encoder.get("name", ""), str):
        raise UserError(f"{location}: settings.encoder: has no name that is a text; {remedy}")


def check_form(form: type[BaseModel], content: Any, location: str, remedy: str) -> None:
    """Checks what a file holds. Messages begin with ``location`` and end with ``remedy``.

    Raises:
        UserError: it does not have this form.
    """
    try:
        form.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = f"{'.'.join(map(str, first['loc']))}: " if first["loc"] else ""  # none: of all that the file holds
        text = first["msg"].removeprefix("Value error, ")
        value = "" if first["type"] == "value_error" else f"{shown(first['input'])}: "
        raise UserError(f"{location}: {where}{value}{text}; {remedy}") from None
