"""Training steps of another commit, in a process beside this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any

from data_utils.errors import UserError
from mt_dnn.bench.workload import BenchRows, Spent

WORKER = Path(__file__).with_name("checkout_worker.py")


class Checkout:
    """Runs the benchmark workload of a checkout of this project, on the same rows. Use it as a context.

    Args:
        folder: the checkout, for example made by ``git worktree add``.
        path: the run file. The other commit has to know its keys and those of the overrides.

    Raises:
        UserError: the folder is no checkout, or its code cannot run this run file or reads other rows from it.
    """

    def __init__(self, folder: Path, path: Path, overrides: Sequence[str], rows: BenchRows) -> None:
        if not (folder / "mt_dnn").is_dir():
            raise UserError(f"--before {folder}: no checkout of this project; make one with git worktree add")
        self.folder, self.log = folder, TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - close() closes it
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), str(path), *overrides],
            env={**os.environ, "PYTHONPATH": str(folder.resolve())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        read = self._answer()
        if read != (expected := {"rows": len(rows.split), "tokens": int(rows.split.lengths.sum())}):
            self.close()
            raise UserError(f"--before {folder}: that commit reads other rows ({read}, here {expected})")

    def __enter__(self) -> Checkout:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def spent(self, name: str, settings: Mapping[str, Any], chunk: Sequence[Any]) -> Spent | None:
        """What one update per batch of the chunk takes there, in the mode with these settings.

        None if that commit does not know the mode or one of its settings. ``name`` is any name of the settings.
        """
        request = {"name": name, "settings": dict(settings), "chunk": [[*map(int, rows)] for rows in chunk]}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        return None if "error" in answer else Spent(answer["wall"], answer["cpu"])

    def close(self) -> None:
        """Ends the process."""
        self.process.communicate()  # ends its input, and with it the process
        self.log.close()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        if answer:
            return json.loads(answer)
        self.process.communicate()
        self.log.seek(0)
        said = self.log.read().strip().splitlines() or [f"exit code {self.process.returncode}"]
        self.close()
        raise UserError(f"--before {self.folder}: its code cannot run this ({said[-1]})")
