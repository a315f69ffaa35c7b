"""The JSON Schema of task files, and the tables of the documentation that say the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from data_utils.task_def import TaskDef
from data_utils.task_schema import MEANINGS, task_def_schema
from data_utils.task_types import DATA_FORMATS, DIVERGENCES, TASK_TYPES
from tests import ROOT

PAGE = (ROOT / "task_defs" / "README.md").read_text(encoding="utf-8")


def keys() -> dict[str, Any]:
    return task_def_schema()["additionalProperties"]["properties"]


def quoted(names: Iterable[object]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def table(heading: str) -> list[str]:
    """The rows of the first table below a line."""
    below = PAGE.split(f"\n{heading}\n\n")[1].partition("\n\n")[0]
    return below.splitlines()[2:]


def test_schema_knows_every_field_and_forbids_others() -> None:
    file = task_def_schema()
    schema = file["additionalProperties"]
    assert set(schema["properties"]) == {*TaskDef.model_fields, "n_class"} - {"name"}
    assert schema["additionalProperties"] is False
    assert schema["properties"]["columns"]["additionalProperties"] == {"type": ["string", "integer"]}
    needed = {"additionalProperties": {"required": ["task_type", "data_format"]}}
    assert file["anyOf"] == [{"required": ["extends"]}, needed]


def test_the_schema_explains_every_key() -> None:
    assert [key for key, schema in keys().items() if not schema.get("description")] == []


def rows() -> Iterator[str]:
    schema = keys()
    for key, meaning in MEANINGS.items():
        default = schema[key].get("default")
        values = default if isinstance(default, list) else [] if default is None or default == {} else [default]
        shown = [
            str(value).lower() if isinstance(value, bool) else f"{value:g}" if value in (0, 1) else value
            for value in values
        ]
        yield f"| `{key}` | {'required' if key in ('task_type', 'data_format') else quoted(shown)} | {meaning} |"


def test_documented_fields_are_those_of_the_schema() -> None:
    """To renew the table: print what this test compares."""
    assert table("## Fields") == [*rows()]
    assert all(f"`{name}`" in PAGE for name in DIVERGENCES)


def test_documented_task_types_are_those_of_the_code() -> None:
    assert table("## Task types") == [
        f"| `{name}` | {quoted(kind.formats)} | {quoted(kind.metrics)} | {quoted(kind.default_metrics)} "
        f"| {quoted(kind.losses)} |"
        for name, kind in TASK_TYPES.items()
    ]
    assert [row.split("`")[1] for row in table("A data format says which texts a row has:")] == [*DATA_FORMATS]
