"""Rows of data sets beside those that a paper prints, from what ``mt-dnn prepare`` has written.

python experiments/sizes.py experiments/tat/published.yml table4 data/glue/prepared data/nli/prepared
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from data_utils.errors import UserError, os_errors
from data_utils.text_table import markdown

SPLITS = ("train", "dev", "test")
Sizes = dict[str, dict[str, int]]  # task → train, dev, test, labels


def sizes(caches: list[Path]) -> Sizes:
    """The rows of each task's files. Splits such as dev_matched and dev_mismatched are added up.

    Languages of XNLI are one task. A file that was prepared several times counts once; a part of a file does not count.

    Args:
        caches: folders of prepared files.

    Raises:
        UserError: a folder holds nothing that is prepared.
    """
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for cache in caches:
        manifests = sorted(cache.glob("*/manifest.json"))
        if not manifests:
            raise UserError(f"{cache}: no prepared files; make them with: mt-dnn prepare")
        for file in manifests:
            with os_errors(file, "cannot be read"):
                manifest = json.loads(file.read_text(encoding="utf-8"))
            if manifest["max_rows"] is None:
                found[manifest["task"], manifest["split"]] = manifest
    table: Sizes = {}
    for (name, split), manifest in found.items():
        task = table.setdefault("xnli" if name.startswith("xnli_") else name, {})
        part = split.partition("_")[0]
        task[part] = task.get(part, 0) + manifest["rows"]
        task["labels"] = len(manifest["definition"]["labels"]) or 1
    return table


def compared(here: Sizes, printed: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """For each row of the paper's table: our numbers, each with the one of the paper."""
    for task, numbers in printed["rows"].items():
        ours = here.get(task, {})
        yield (task, *(cell(ours.get(name), number) for name, number in zip(printed["columns"], numbers, strict=True)))


def cell(ours: int | None, printed: int | None) -> str:
    """A cell: ours (the paper's). A dash stands for what is not there, or not printed."""
    return f"{'-' if ours is None else ours} ({'-' if printed is None else printed})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("published", type=Path, help="published.yml of a paper")
    parser.add_argument("table", help="table of sizes in it")
    parser.add_argument("caches", type=Path, nargs="+", help="folders of prepared files")
    options = parser.parse_args()
    with os_errors(options.published, "cannot be read"):
        content = yaml.safe_load(options.published.read_text(encoding="utf-8"))
    if options.table not in content or "train" not in content[options.table]["columns"]:
        raise UserError(f"{options.published}: no table of sizes '{options.table}'")
    printed = content[options.table]
    print(f"{printed['title']}: rows here (rows in the paper)\n")
    print(markdown(["data set", *printed["columns"]], list(compared(sizes(options.caches), printed))))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"sizes: {error}")
