"""``python -m tests.golden``: renews or checks the golden figures, or compares two checkouts bit by bit."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.golden.comparing import ROOT, compare, finish, start
from tests.golden.figures import FILE, kept, largest, misfits, pairs, read_figures, write_figures
from tests.golden.inputs import all_combinations, machine, make_inputs
from tests.golden.make_old_run import FOLDER, make


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    whole = argparse.ArgumentParser(prog="python -m tests.golden", description="Short runs whose figures are known.")
    commands = whole.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print the names of the combinations")
    writing = commands.add_parser("write", help=f"run all combinations and renew {FILE.relative_to(ROOT)}")
    writing.add_argument("--only", nargs="+", default=[], metavar="NAME", help="renew only these combinations")
    checking = commands.add_parser(
        "check", help="run all combinations and say how far they are from the golden figures"
    )
    checking.add_argument("--threads", type=int, default=1, metavar="N", help="threads of the run")
    comparing = commands.add_parser("compare", help="compare the figures of another checkout and this one bit by bit")
    comparing.add_argument("--before", type=Path, required=True, metavar="CHECKOUT", help="the other checkout")
    comparing.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these combinations")
    comparing.add_argument("--keep", type=Path, metavar="FOLDER", help="leave inputs, runs and results in a new folder")
    making = commands.add_parser("old-run", help=f"renew {FOLDER.relative_to(ROOT)} with the code of an older checkout")
    making.add_argument("--by", type=Path, required=True, metavar="CHECKOUT", help="the older checkout")
    return whole


def run_here(work: Path, only: Sequence[str] = (), threads: int = 1) -> dict[str, Any]:
    """The kept figures of all combinations, or only of these, run in this checkout.

    Raises:
        SystemExit: one of them fails.
    """
    (work / "inputs").mkdir()
    make_inputs(work / "inputs")
    results = finish(start(ROOT, work / "inputs", work / "now", only, threads=threads), work / "now")
    failed = [f"{name}: {figures['error']}" for name, figures in results.items() if "error" in figures]
    if failed:
        raise SystemExit("\n".join(failed))
    return {name: kept(figures) for name, figures in results.items() if "updates" in figures}


def renew(only: Sequence[str], work: Path) -> None:
    """Writes the golden file. With ``only`` the figures of all other combinations stay.

    Raises:
        SystemExit: a run fails, or the figures that stay are of other versions or of another machine.
    """
    written, golden = read_figures()
    if only and written != machine():
        raise SystemExit(f"the other figures were written with {written}, here is {machine()}; renew all of them")
    results = run_here(work, only)
    write_figures({name: results[name] if name in results else golden[name] for name in all_combinations(Path())})


def check(results: Mapping[str, Any]) -> int:
    """Prints how far the figures are from the golden ones; the exit code."""
    _, golden = read_figures()
    wrong = {name: found for name in results if (found := misfits(golden.get(name), results[name]))}
    for name, found in wrong.items():
        print(f"{name}: {len(found)} figures do not fit, the first of them {found[0]}")
    everything = [pair for name in golden for pair in pairs(golden[name], results.get(name))]
    for kind, pair in largest(everything).items():
        print(f"{kind}: at most {pair.deviation:.2g} tolerances ({pair.place}: {pair.golden} golden, {pair.now} now)")
    print(f"{len(results) - len(wrong)} of {len(results)} fit the golden figures")
    return int(bool(wrong) or golden.keys() != results.keys())


def main() -> int:
    """Runs the command; returns the exit code."""
    options = parser().parse_args()
    if options.command == "list":
        print("\n".join(all_combinations(Path())))
        return 0
    if options.command == "old-run":
        make(options.by)
        return 0
    with TemporaryDirectory() as folder:
        if options.command == "check":
            return check(run_here(Path(folder), threads=options.threads))
        unknown = set(options.only) - set(all_combinations(Path()))
        if unknown:
            raise SystemExit(f"no such combination: {', '.join(sorted(unknown))}")
        if options.command == "write":
            renew(options.only, Path(folder))
            return 0
        return compare(options.before, options.only, options.keep or Path(folder))


if __name__ == "__main__":
    sys.exit(main())
