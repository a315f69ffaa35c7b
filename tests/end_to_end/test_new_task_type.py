"""The recipe for a task type in CONTRIBUTING.md: followed in a copy of the tree, it makes a type that trains."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests import ROOT
from tests.workspace import make_workspace, rows_of, write_task

TASK = {"task_type": "count", "data_format": "pair", "splits": ["train", "dev"]}
COMMANDS = """
import sys
from mt_dnn.cli.main import main

for command in sys.argv[1].splitlines():
    try:
        main(command.split())
    except SystemExit as exit_:
        assert not exit_.code, command
"""


def recipe() -> list[tuple[str, str]]:
    """(file, code) of each code block of the recipe; the file is the last one that is named before the block."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (part,) = re.findall(r"^\*\*a task type\*\*.*?(?=^\*\*)", text, flags=re.M | re.S)
    prose, *blocks = re.split(r"^```(?:python)?\n", part, flags=re.M)
    found = []
    for code, after in zip(blocks[::2], blocks[1::2], strict=True):
        found.append((re.findall(r"`([\w/]+\.py)`", prose)[-1], code))
        prose = after
    return found


def follow(recipe: list[tuple[str, str]], tree: Path) -> list[str]:
    """Writes the code blocks into a copy of the source tree; returns the files that this changes."""
    for package in ("data_utils", "mt_dnn"):
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    (entries, entry), (head, code) = recipe
    text = (tree / entries).read_text(encoding="utf-8")
    assert text.endswith("\n}\n"), "TASK_TYPES is the last thing in its file"
    (tree / entries).write_text(text.removesuffix("}\n") + entry + "}\n", encoding="utf-8")
    assert not (tree / head).exists()
    (tree / head).write_text(code, encoding="utf-8")
    return [entries, head]


def run(tree: Path, *commands: str) -> str:
    """Standard output of commands of mt-dnn, run with the copied tree."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    arguments = [sys.executable, "-c", COMMANDS, "\n".join(commands)]
    done = subprocess.run(arguments, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_recipe_for_a_task_type_works(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    assert follow(recipe(), tree) == ["data_utils/task_types.py", "mt_dnn/tasks/count.py"]
    make_workspace(tmp_path, train_rows=8)
    for split, count in (("train", 64), ("dev", 24)):
        write_task(tmp_path / "data", "counted", split, rows_of("overlap", count, len(split)))
    (tmp_path / "tasks.yml").write_text(yaml.safe_dump({"counted": TASK}), encoding="utf-8")
    (tmp_path / "text.txt").write_text("the cat sees\tthe cat\na dog\tnot a bird\n", encoding="utf-8")
    output = tmp_path / "run"
    printed = run(
        tree,
        f"train {tmp_path / 'run.yml'} adversary.mode=vat optimizer.lr=5e-3 train.epochs=3",
        f"evaluate {output} --json",
        f"predict {output} --task counted --input {tmp_path / 'text.txt'} --output {tmp_path / 'answers.jsonl'}",
    )
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    (result,) = summary["results"]
    assert result["task"] == "counted" and result["scores"].keys() == {"spearman"}
    assert f'"spearman": {result["scores"]["spearman"]}' in printed
    log = [json.loads(line) for line in (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [line for line in log if line["event"] == "train"]
    assert steps[-1]["loss"] < steps[0]["loss"] and all("regularizer" in line["adversary"] for line in steps)
    predictions = [json.loads(line)["prediction"] for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert len(set(predictions)) == 2 and min(predictions) > 0
