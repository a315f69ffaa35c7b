"""``python -m tests.golden``: renews the golden figures, or compares two checkouts bit by bit."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.golden.comparing import ROOT, compare, finish, start
from tests.golden.figures import FILE, kept, write_figures
from tests.golden.inputs import all_combinations, make_inputs


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    whole = argparse.ArgumentParser(prog="python -m tests.golden", description="Short runs whose figures are known.")
    commands = whole.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print the names of the combinations")
    commands.add_parser("write", help=f"run all combinations and renew {FILE.relative_to(ROOT)}")
    comparing = commands.add_parser("compare", help="compare the figures of another checkout and this one bit by bit")
    comparing.add_argument("--before", type=Path, required=True, metavar="CHECKOUT", help="the other checkout")
    comparing.add_argument("--only", nargs="+", default=[], metavar="NAME", help="only these combinations")
    comparing.add_argument("--keep", type=Path, metavar="FOLDER", help="leave inputs, runs and results in a new folder")
    return whole


def write(work: Path) -> int:
    """Runs all combinations in this checkout and writes their figures."""
    (work / "inputs").mkdir()
    make_inputs(work / "inputs")
    results = finish(start(ROOT, work / "inputs", work / "now"), work / "now")
    failed = {name: figures["error"] for name, figures in results.items() if "error" in figures}
    for name, error in failed.items():
        print(f"{name}: {error}")
    if not failed:
        write_figures({name: kept(figures) for name, figures in results.items() if "updates" in figures})
    return int(bool(failed))


def main() -> int:
    """Runs the command; returns the exit code."""
    options = parser().parse_args()
    if options.command == "list":
        print("\n".join(all_combinations(Path())))
        return 0
    with TemporaryDirectory() as folder:
        if options.command == "write":
            return write(Path(folder))
        unknown = set(options.only) - set(all_combinations(Path()))
        if unknown:
            raise SystemExit(f"no such combination: {', '.join(sorted(unknown))}")
        return compare(options.before, options.only, options.keep or Path(folder))


if __name__ == "__main__":
    sys.exit(main())
