"""Writes docs/commands.md, the reference of the command line, from the commands themselves.

python scripts/write_commands_page.py
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer.main

from data_utils.files import replacing
from mt_dnn.cli.main import app

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
HEAD = """# Commands

`scripts/write_commands_page.py` writes this page from the commands. `mt-dnn COMMAND --help` prints the same.

"""


def page() -> str:
    """The text of the page."""
    group: Any = typer.main.get_command(app)
    options = "\n".join(rows(group))
    return (
        HEAD + f"Options of all commands, which stand before the name of the command:\n\n{options}\n" + sections(group)
    )


def sections(group: Any, prefix: str = "mt-dnn") -> str:
    """A section for each command of a group, and for those of the groups in it."""
    parts = []
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            parts.append(f"\n## {prefix} {name}\n\n{text(command.help)}\n")
            parts.append(sections(command, f"{prefix} {name}"))
        else:
            table = "\n".join(rows(command))
            parts.append(
                f"\n{'##' if prefix == 'mt-dnn' else '###'} {prefix} {name}\n\n{text(command.help)}\n\n{table}\n"
            )
    return "".join(parts)


def rows(command: Any) -> Iterator[str]:
    """A table of the arguments and options of a command: name, default, meaning."""
    yield "| name | default | meaning |"
    yield "|---|---|---|"
    for parameter in command.params:
        if getattr(parameter, "hidden", False):
            continue
        argument = parameter.param_type_name == "argument"
        name = parameter.name.upper() if argument else ", ".join([*parameter.opts, *parameter.secondary_opts])
        shown = isinstance(parameter.default, str | int | float | Path) and parameter.default is not False
        given = parameter.default.value if isinstance(parameter.default, Enum) else parameter.default
        default = "required" if parameter.required else f"`{given}`" if shown else ""
        yield f"| `{name}` | {default} | {text(parameter.help).replace('|', chr(92) + '|')} |"


def text(written: str | None) -> str:
    """A help text in one line. What looks like a tag of HTML stands as code."""
    return re.sub(r"(?<![`<\w])([\w:/]*<[\w<>/]+>(?:/\w+)?)", r"`\1`", " ".join((written or "").split()))


if __name__ == "__main__":
    with replacing(PAGE) as file:
        file.write_text(page(), encoding="utf-8")
