"""Prints the run folders of a study as ``label=folder``, for ``mt-dnn analyze`` and for submissions.

python experiments/run_folders.py experiments/tat/figures1_3.yml --profile cpu
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from data_utils.errors import UserError
from mt_dnn.studies.grid import Grid
from mt_dnn.studies.records import read_record
from mt_dnn.studies.study import load_study


def run_folders(grid: Grid, runs: Path, where: dict[str, str], axis: str) -> Iterator[tuple[str, Path]]:
    """Yields (label, folder) for each finished run of the cells with these labels.

    Args:
        runs: the folder of run folders.
        where: axis → label.
        axis: the axis whose labels name the runs.

    Raises:
        UserError: the study has no such axis or label, or a run is not finished.
    """
    for name in (*where, axis):
        if name not in grid.study.axes:
            raise UserError(f"{grid.study.title}: no axis '{name}' (known: {', '.join(grid.study.axes)})")
    cells = [cell for cell in grid.cells if cell.fits(where)]
    if not cells:
        raise UserError(f"{grid.study.title}: no cell with {where}")
    for cell in cells:
        for seed in grid.study.seed_list:
            folder = grid.run(cell, seed).config(runs).output
            record = read_record(folder)
            if record is None or "error" in record:
                raise UserError(f"{cell}, seed {seed}: is not finished; make it with mt-dnn sweep")
            yield cell.labels[axis], folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="study file")
    parser.add_argument("where", nargs="*", metavar="axis=label", help="only runs with these labels")
    parser.add_argument("--profile", help="profile of the study file")
    parser.add_argument("--runs", type=Path, default=Path("runs/studies"), help="folder of run folders")
    parser.add_argument("--axis", default="method", help="axis whose labels name the runs")
    options = parser.parse_args()
    where = dict(text.split("=", 1) for text in options.where)
    grid = Grid(load_study(options.study, options.profile))
    print(*(f"{label}={folder}" for label, folder in run_folders(grid, options.runs, where, options.axis)))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"run_folders: {error}")
