"""Foreign files → canonical rows: the command line of all converters under experiments/.

A converter gives `main` a table of sources, one per task.
"""

from __future__ import annotations

import argparse
import glob
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_utils.benchmarks.written import AnySource, Written
from data_utils.errors import UserError, unknown_key


@dataclass
class Report:
    """What was written, what was not found, and what was found but wrong. Each entry becomes one line."""

    written: list[Written] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def finish(self) -> int:
        """Prints the summary. Returns the exit code: 2 if nothing was written or something failed, else 0."""
        header = ["task", "split", "rows", "no gold", "broken", "labels"]
        table = [header, *(written.cells() for written in self.written)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for cells in table:
            print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
        for problem in self.missing:
            print(f"not found: {problem}")
        for problem in dict.fromkeys(self.failed):  # a folder that cannot be written is named once
            print(f"failed: {problem}", file=sys.stderr)
        return 2 if self.failed or not self.written else 0


def find_file(directory: Path, names: Sequence[str]) -> Path | None:
    """The file of the first name that exists, else None. Raises UserError when two files fit one name."""
    for name in names:
        found = sorted(glob.glob(name, root_dir=directory))
        if len(found) > 1:
            raise UserError(f"{directory}: {' and '.join(found)} both fit {name}; keep one of them")
        if found:
            return _join(directory, found[0])
    return None


def _join(directory: Path, name: str) -> Path:
    return Path(os.path.normpath(directory / name))


def convert(sources: Mapping[str, AnySource], directory: Path, output: Path, asked: Sequence[str] = ()) -> Report:
    """Converts the tasks `asked` for (default: all). A missing or wrong task does not stop the others."""
    report = Report()
    for task in asked or sources:
        before = len(report.written) + len(report.failed)
        missing = []
        for split, names in sources[task].files.items():
            try:
                if path := find_file(directory, names):
                    report.written.append(sources[task].write(path, task=task, split=split, output=output))
                else:
                    missing.append(str(_join(directory, names[0])))
            except UserError as error:
                report.failed.append(str(error))
        absent = before == len(report.written) + len(report.failed)
        problems = [f"{task}: none of {', '.join(missing)}"] if absent else missing
        (report.failed if absent and asked else report.missing).extend(problems)
    return report


def main(sources: Mapping[str, AnySource], *, description: str | None, arguments: Sequence[str] | None = None) -> int:
    """Runs the command line of a converter. Returns the exit code."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--source", type=Path, required=True, help="the folder with the original files")
    parser.add_argument("--output", type=Path, required=True, help="where <task>_<split>.tsv are written")
    parser.add_argument(
        "--tasks", nargs="+", default=[], metavar="TASK", help=f"some of {', '.join(sources)}; default: all"
    )
    options = parser.parse_args(arguments)
    try:
        if not options.source.is_dir():
            raise UserError(f"{options.source}: no such folder")
        for task in options.tasks:
            if task not in sources:
                raise unknown_key("--tasks", task, sources)
        return convert(sources, options.source, options.output, options.tasks).finish()
    except UserError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
