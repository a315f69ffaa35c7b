"""mt-dnn config: prints a run file with all defaults, or the JSON Schema of run, task and study files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from data_utils.errors import UserError
from mt_dnn.cli.arguments import Overrides


def config(
    config: Annotated[Path | None, typer.Argument(help="Run file to print with every default.")] = None,
    overrides: Overrides = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of run, task and study files.")
    ] = False,
) -> None:
    """Print a run file with all defaults, or the JSON Schema of run, task and study files for editors."""
    import yaml

    from mt_dnn.runs.config_file import load_config
    from mt_dnn.runs.file_schema import file_schema
    from mt_dnn.studies.study import study_schema

    if schema:
        files, study = file_schema(), study_schema()
        files["$defs"] |= {**study.pop("$defs"), "study": study}
        files["anyOf"].append({"$ref": "#/$defs/study"})
        print(json.dumps(files, indent=1))
    elif config is None:
        raise UserError("config: give a run file, or --schema")
    else:
        print(yaml.safe_dump(load_config(config, overrides or []).model_dump(mode="json"), sort_keys=False), end="")
