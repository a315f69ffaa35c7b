"""The JSON Schema of task files, and the table of its keys in the documentation."""

from __future__ import annotations

from data_utils.task_def import TaskDef
from data_utils.task_schema import task_def_schema


def test_schema_knows_every_field_and_forbids_others() -> None:
    file = task_def_schema()
    schema = file["additionalProperties"]
    assert set(schema["properties"]) == {*TaskDef.model_fields, "n_class"} - {"name"}
    assert schema["additionalProperties"] is False
    assert schema["properties"]["columns"]["additionalProperties"] == {"type": ["string", "integer"]}
    needed = {"additionalProperties": {"required": ["task_type", "data_format"]}}
    assert file["anyOf"] == [{"required": ["extends"]}, needed]


def test_the_schema_explains_every_key() -> None:
    keys = task_def_schema()["additionalProperties"]["properties"]
    assert [key for key, schema in keys.items() if not schema.get("description")] == []
