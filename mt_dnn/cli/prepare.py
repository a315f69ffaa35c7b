"""mt-dnn prepare: turns canonical rows into token ids."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_utils.errors import MissingRows, UserError, tell

LONGEST = 1_000_000  # tokens, more than any encoder reads


def prepare(
    task_defs: Annotated[Path, typer.Argument(help="Task file (YAML).")],
    data: Annotated[Path, typer.Option(help="Folder of canonical rows.")],
    encoder: Annotated[str, typer.Option(help="Encoder whose tokenizer is used: hub name, folder or package:…")],
    max_length: Annotated[int, typer.Option(min=1, max=LONGEST, help="Longest sequence in tokens.")] = 512,
    stride: Annotated[
        int, typer.Option(min=0, max=LONGEST, help="Tokens that two windows of a long text share.")
    ] = 128,
    cache: Annotated[Path | None, typer.Option(help="Folder of prepared files; default: <data>/prepared.")] = None,
) -> None:
    """Turn canonical rows into token ids. Training does this by itself; here you see what it finds.

    Missing files are named. Wrong files are listed last, when all others are prepared.
    """
    from data_utils.features import load_tokenizer
    from data_utils.kept import unkept
    from data_utils.prepare import missing_notice, prepare_all
    from data_utils.prepared import size_figures
    from data_utils.task_def import load_task_defs
    from data_utils.text_table import table
    from data_utils.vocabulary import check_unknown

    defs = load_task_defs(task_defs)
    if cache is not None and cache.exists() and not cache.is_dir():
        raise UserError(f"{cache}: is no folder; name another with --cache")
    wanted = [(task, split) for task in defs.values() for split in task.splits]
    splits, problems = prepare_all(
        wanted,
        data_dir=data,
        cache_dir=cache or data / "prepared",
        tokenizer=load_tokenizer(encoder),
        max_length=max_length,
        stride=stride,
    )
    rows = [(name, split, *size_figures(prepared)) for (name, split), prepared in splits.items()]
    print(table(("task", "split", "rows", "tokens", "mean", "longest", "truncated", "unknown"), rows))
    absent = [key for key, problem in problems.items() if isinstance(problem, MissingRows)]
    missing = missing_notice(data, wanted, absent)
    notices = [prepared.manifest["notice"] for prepared in splits.values() if "notice" in prepared.manifest]
    for line in (*missing, *notices, *check_unknown(splits, most=1)):
        tell(line)
    found = (problem for problem in problems.values() if not isinstance(problem, MissingRows))
    wrong = list({str(problem): problem for problem in found}.values())  # what is wrong with an option is said once
    for error in wrong[:-1]:
        tell(error)
    if wrong:
        raise wrong[-1]  # printed like the others; the exit code is 2
    if problem := unkept(splits.values()):
        raise UserError(f"{problem}; name another folder with --cache")
    if not splits:
        raise UserError(f"{data}: no rows for any task of {task_defs}; give the folder of <task>_<split>.tsv files")
