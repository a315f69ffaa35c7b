"""The JSON Schema of run files and task files, which editors check them with."""

from __future__ import annotations

from typing import Any

from data_utils.extends import KEY, SCHEMA
from data_utils.task_schema import task_def_schema
from mt_dnn.adversarial.modes import ADVERSARIES
from mt_dnn.adversarial.presets import PREFIX
from mt_dnn.runs.config import RunConfig

PRESETS = ({"type": "string", "pattern": f"^{PREFIX}"}, {"type": "object", "required": ["preset"]})
DRAFT = "https://json-schema.org/draft/2020-12/schema"


def file_schema() -> dict[str, Any]:
    """Makes the schema. It fits run files and task files. A file that extends another one may leave keys out."""
    run = RunConfig.model_json_schema()
    parts = run.pop("$defs")
    sections = {key: _definition(parts, section) for key, section in run["properties"].items()}
    needed = {key: {"required": section.pop("required")} for key, section in sections.items() if "required" in section}
    complete = {"required": run.pop("required"), "properties": needed}
    adversary = run["properties"]["adversary"]  # its mode may be in the file below
    adversary["anyOf"] = [{"enum": list(ADVERSARIES)}, *PRESETS, *adversary.pop("oneOf")]
    run["properties"][KEY] = SCHEMA
    run["anyOf"] = [{"required": [KEY]}, complete]
    choices = [{"$ref": "#/$defs/run"}, {"$ref": "#/$defs/tasks"}]
    return {"$schema": DRAFT, "anyOf": choices, "$defs": {**parts, "run": run, "tasks": task_def_schema()}}


def _definition(parts: dict[str, Any], section: dict[str, Any]) -> dict[str, Any]:
    """The schema that a section refers to. Empty if it refers to none."""
    return parts.get(section.get("$ref", "").rpartition("/")[2], {})
