"""What a client of ``mt-dnn serve`` may send: rows of a task as JSON, within limits."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, create_model
from pydantic_core import PydanticCustomError

from data_utils.cells import CHOICE
from data_utils.files import Twice, single_keys
from data_utils.inputs import Input
from data_utils.rows import PLACEHOLDER
from data_utils.task_def import TaskDef
from data_utils.task_types import DATA_FORMATS
from mt_dnn.inference.predict import Wanted, has_probabilities

STRICT = ConfigDict(strict=True, extra="forbid", title="")
RENAMED = ConfigDict(**STRICT, populate_by_name=True)


@dataclass(frozen=True)
class Limits:
    """The most that a server takes.

    Args:
        rows: rows in a request, also choices in a row.
        characters: characters in a text, or in all words of a row with the spaces between them.
        size: bytes in the body of a request.
        queue_rows: rows that wait.
        body_s: seconds until the body of a request is there.
    """

    rows: int = 128
    characters: int = 10_000
    size: int = 16_000_000  # a full request of pairs fits, also if each character is written as \uXXXX
    queue_rows: int = 2000
    body_s: float = 30.0


class Refused(Exception):
    """A request that gets no prediction.

    ``status``: the code of HTTP. ``reason``: a line for the client.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def body_type(task: TaskDef, limits: Limits) -> type[BaseModel]:
    """The type of a request's body: rows with the text columns of the task, and what is wanted of them."""
    row = _row_type(task, limits)
    rows = Annotated[list[row], Field(min_length=1, max_length=limits.rows, description="answered in this order")]  # type: ignore[valid-type]
    fields: dict[str, Any] = {
        "rows": (rows, ...),
        "logits": (bool, Field(False, description="the outputs of the head")),
    }
    if has_probabilities(task):
        fields["probabilities"] = (bool, Field(False, description="the probabilities of all options"))
    return create_model("Body", __config__=STRICT, **fields)


def _row_type(task: TaskDef, limits: Limits) -> type[BaseModel]:
    """A row as JSONL has it: lists of words and of choices, all else texts. An empty text gets no prediction.

    Columns have the names that the task file gives them, or ours.
    """
    text = Annotated[str, StringConstraints(max_length=limits.characters)]
    filled = Annotated[str, StringConstraints(max_length=limits.characters, min_length=1)]
    word = Annotated[str, StringConstraints(max_length=limits.characters, pattern="^[^ ]+$")]
    gap = Annotated[str, StringConstraints(max_length=limits.characters, pattern=PLACEHOLDER)]
    sentence = Annotated[list[word], Field(min_length=1), AfterValidator(_short_enough(limits.characters))]
    kinds: Mapping[str, Any] = {"words": sentence, "query": gap}
    columns = DATA_FORMATS[task.data_format]
    fields: dict[str, Any] = {name: (kinds.get(name, text), ...) for name in columns if not CHOICE.fullmatch(name)}
    if "choice1" in columns:
        fields["choices"] = (Annotated[list[filled], Field(min_length=2, max_length=limits.rows)], ...)
    uid = Annotated[str, StringConstraints(max_length=200)]
    if "uid" not in task.columns.values():
        fields["uid"] = (
            uid | None,
            Field(None, description="comes back with the prediction; default: the row's number"),
        )
    for name, (kind, default) in fields.items():
        if theirs := task.columns.get(name):
            fields[name] = (Annotated[kind, Field(alias=theirs)], default)
    return create_model("Row", __config__=RENAMED, **fields)


def _short_enough(characters: int) -> Callable[[list[str]], list[str]]:
    """A check of words: together they are no longer than a text may be."""

    def check(words: list[str]) -> list[str]:
        found = len(" ".join(words))
        if found > characters:
            raise PydanticCustomError(
                "sentence_too_long",
                "the words have {found} characters with the spaces between them, at most {characters}",
                {"found": found, "characters": characters},
            )
        return words

    return check


def body_schema(body: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a body, without references."""
    schema = body.model_json_schema()
    (row,) = schema.pop("$defs").values()
    schema["properties"]["rows"]["items"] = row
    return schema


def read_body(content: bytes, body: type[BaseModel]) -> tuple[Wanted, list[Input]]:
    """Returns what is wanted, and the rows, as a file of JSONL would have them.

    Raises:
        Refused: the content is not JSON (400), or JSON of another form or with a key that occurs twice (422).
    """
    try:
        found: Any = body.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        if problem["type"] == "json_invalid":
            raise Refused(
                400, f"the body is not JSON in UTF-8: {problem['msg'].removeprefix('Invalid JSON: ')}"
            ) from None
        raise Refused(422, f"{_location(problem['loc'])}{problem['msg']}") from None
    try:
        json.loads(content.decode(), object_pairs_hook=single_keys)  # pydantic keeps the last of two equal keys
    except Twice as error:
        raise Refused(422, f"{error}") from None
    rows = [row.model_dump(exclude_none=True) for row in found.rows]
    wanted = Wanted(getattr(found, "probabilities", False), found.logits)
    return wanted, [Input(f"row {number}", number, row, tuple(row)) for number, row in enumerate(rows, 1)]


def _location(parts: Sequence[str | int]) -> str:
    """Where a problem is, such as ``row 2: words 4: ``. Rows and items of lists count from 1, as in all messages."""
    if parts[:1] == ("rows",) and len(parts) > 1:
        parts = ("row", *parts[1:])
    text = "".join(f" {part + 1}" if isinstance(part, int) else f": {part}" for part in parts)
    return f"{text.removeprefix(': ')}: " if text else ""
