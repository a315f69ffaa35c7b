"""Starts commands with a fault at a point, and checks what they promise."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from resource import RLIM_INFINITY
from typing import Any

from tests.cuts import CORRECT, cut
from tests.faults import promise
from tests.faults.commands import TRAIN, Command, begin, files, prepare_workspace, results
from tests.faults.shim import KILLED, KINDS, Fault, Shim
from tests.kills.starts import Failure, Start


@dataclass(frozen=True)
class Undisturbed:
    """A start without a fault: its calls in the process of each rank, its files (see ``results``), and its table."""

    calls: dict[str, list[tuple[str, str]]]
    files: dict[str, Any]
    table: list[str]

    def faults(self) -> list[Fault]:
        return [
            Fault(number, kind, rank)
            for rank, calls in self.calls.items()
            for number, (call, _) in enumerate(calls, 1)
            for kind in KINDS[call]
        ]


@dataclass
class Faults:
    """Starts commands in subfolders of ``folder``. ``sabotage``: what each process does before a command."""

    folder: Path
    sabotage: Callable[[], object] = lambda: None
    counts: Counter[str] = field(default_factory=Counter)
    started: int = 0

    def __post_init__(self) -> None:
        self.workspace = self.folder / "workspace"
        # In a copy of this process, which must not start threads.
        assert cut(lambda: prepare_workspace(self.workspace), RLIM_INFINITY, killed=False) == CORRECT
        train = ["train", str(self.workspace / "run.yml"), f"output={self.workspace / 'trained'}", *TRAIN]
        start = Start(train, self.folder / "trained.log", real=False)
        if start.end() != 0:
            raise Failure(start.printed())
        self.inputs = files(self.workspace)

    def begin(self, command: Command) -> tuple[Path, dict[str, bytes]]:
        """Makes the folder that the command writes. Returns it, and the files of the user in it."""
        out = self.folder / "out"  # the same name for all starts, because files have it in them
        shutil.rmtree(out, ignore_errors=True)
        return out, begin(command, self.workspace, out)

    def start(self, command: Command, out: Path, fault: Fault | None) -> tuple[Start, dict[str, list[tuple[str, str]]]]:
        """Starts a command and waits for its end. Returns it, and its calls by rank."""
        self.started += 1
        trace = self.folder / f"trace{self.started}"
        shim = Shim(out, trace, fault)

        def before() -> None:
            shim.install()
            self.sabotage()

        log = self.folder / f"start{self.started}.log"
        start = Start(command.arguments(self.workspace, out), log, real=False, before=before)
        start.end()
        calls = {}
        for file in sorted(self.folder.glob(f"{trace.name}.*")):
            pairs = (line.split("\t") for line in file.read_text(encoding="utf-8").splitlines())
            calls[file.suffix[1:]] = [(call, name) for call, name in pairs]
            file.unlink()
        return start, calls

    def undisturbed(self, command: Command) -> Undisturbed:
        """A start without a fault. Raises Failure if it fails, or does not flush what it renames."""
        out, _ = self.begin(command)
        start, calls = self.start(command, out, None)
        if start.code != 0:
            raise Failure(f"exit code {start.code} without a fault: {start.printed()}")
        if late := [name for of_rank in calls.values() for name in promise.unflushed(of_rank)]:
            raise Failure(f"renamed before they were flushed: {', '.join(late)}")
        found = Undisturbed(calls, results(files(out)), promise.table(start.printed(), command.table))
        start.log.unlink()
        return found

    def broken(self, command: Command, expected: Undisturbed, fault: Fault) -> list[str]:
        """Starts a command with a fault, and once more without. Returns the broken promises."""
        out, old = self.begin(command)
        start, calls = self.start(command, out, fault)
        assert start.code is not None
        reached = calls.get(fault.rank, [])
        if len(reached) < fault.number:
            self.counts["points that were not reached"] += 1
        call = expected.calls[fault.rank][fault.number - 1][0]
        printed, found = start.printed(), files(out)
        outcome = "killed" if fault.kind == KILLED else "tolerated" if start.code == 0 else f"exit {start.code}"
        self.counts.update(("points", outcome))
        problems = [
            *promise.broken_end(start.code, printed, call, fault.kind, out, command.processes),
            *promise.broken_files(found, old, expected.files, printed, fault.kind),
        ]
        table = promise.table(printed, command.table)
        if start.code == 0:
            problems += promise.broken_results(found, expected.files, expected.table, expected.table, printed)
        again, _ = self.start(command, out, None)
        if again.code != 0:
            problems.append(f"{promise.LOSS}the next start fails: {promise.lines(again.printed())[-1:]}")
        else:
            table = promise.table(again.printed(), command.table)
            problems += promise.broken_results(files(out), expected.files, table, expected.table, printed)
        if any(files(out).get(name) != content for name, content in old.items()):
            problems.append(f"{promise.LOSS}the next start changes files of the user")
        if files(self.workspace) != self.inputs:
            raise Failure(f"{fault}: input was changed")
        for log in (start.log, again.log):
            log.unlink()
        return list(dict.fromkeys(problems))
