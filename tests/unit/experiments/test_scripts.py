"""Studies that stand for scripts, what committed records say, and the modules that shell scripts name."""

from __future__ import annotations

import json
import re
import statistics
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from experiments.tasks.derive import split_boolq
from mt_dnn.studies.derived_cells import make_table
from mt_dnn.studies.grid import Grid
from mt_dnn.studies.study import load_study
from tests import ROOT

SHELL_SCRIPTS = [path for folder in ("experiments", "scripts") for path in sorted((ROOT / folder).rglob("*.sh"))]
MEASURED = ROOT / "experiments" / "results"
# Study → runs, and numbers in its table.
STUDIES = {
    "adversarial/modes_glue": (11 * 4 * 3, 11 * 6),
    "adversarial/modes_nli": (5 * 3, 5 * 4),
    "baseline/five_tasks": (3, 7),
    "baseline/one_task": (3 * 3, 5),
    "distillation/students": (2 * 2 * 3, 2 * 3),
    "tasks/mixed": (3, 10),
    "tasks/types": (14 * 3, 34),
}


@pytest.mark.parametrize("name", STUDIES)
def test_studies_have_the_runs_and_numbers_of_their_pages(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    grid = Grid(load_study(ROOT / "experiments" / f"{name}.yml"))
    runs = {grid.run(cell, seed).settings_id for cell in grid.cells for seed in grid.study.seed_list}
    table = make_table(grid, {})
    cells = [position for position, cell in table.cells.items() if cell.group and table.entries(position)[1].score]
    assert (len(runs), len(cells)) == STUDIES[name]


def test_the_mean_of_trainer_stands_beside_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    table = make_table(Grid(load_study(ROOT / "experiments" / "baseline" / "one_task.yml")), {})
    document = (MEASURED / "baseline_cpu.md").read_text(encoding="utf-8")
    for (_, column), cell in table.cells.items():
        score = table.columns[column].score
        assert score is not None and cell.published is not None
        row = next(line for line in document.splitlines() if line.startswith(f"| {score.task} | {score.metric} |"))
        assert row.split("|")[4].split("±")[0].strip() == f"{cell.published:.2f}"


def test_random_fields_are_the_only_difference_between_tagging_tasks() -> None:
    plain = yaml.safe_load((ROOT / "task_defs" / "tagging.yml").read_text(encoding="utf-8"))
    fields = yaml.safe_load((ROOT / "experiments" / "tasks" / "crf.yml").read_text(encoding="utf-8"))
    for name, task in fields.items():
        assert task == {**plain[name], "crf": True}


def test_boolq_without_training_rows_is_divided(tmp_path: Path) -> None:
    header, lines = "uid\tlabel\tpremise\thypothesis\n", [f"{n}\t1\ta\tb\n" for n in range(1200)]
    (tmp_path / "boolq_dev.tsv").write_text(header + "".join(lines))
    output = tmp_path / "derived"
    output.mkdir()
    split_boolq(tmp_path, output)
    assert (output / "boolq_train.tsv").read_text() == header + "".join(lines[:200])
    assert (output / "boolq_dev.tsv").read_text() == header + "".join(lines[200:])
    (tmp_path / "boolq_train.tsv").write_text(header + lines[0])
    split_boolq(tmp_path, output)
    assert (output / "boolq_dev.tsv").read_text() == header + "".join(lines)


def test_scores_of_adversarial_runs_are_those_of_the_records() -> None:
    """Mean ± sample standard deviation of the committed runs, as the page prints them."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for line in (MEASURED / "adversarial_cpu.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        mode = record["name"].split("-", 1)[1] + (" †" if record.get("preset_changed_since") else "")
        for result in record["results"]:
            for metric, value in result["scores"].items():
                found[mode, f"{result['task']} {metric}"].append(100 * value)
    assert len(found) == 10 * 6 + 5 * 4 and {len(values) for values in found.values()} == {3}
    header: list[str] = []
    checked = 0
    for line in (MEASURED / "adversarial_cpu.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if cells[:1] == ["mode"]:
            header = cells
        for name, cell in zip(header, cells, strict=False):
            if (values := found.get((cells[0], name))) is not None:
                assert cell == f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}", (cells[0], name)
                checked += 1
    assert checked == len(found)


def test_modules_that_shell_scripts_name_exist() -> None:
    texts = [path.read_text(encoding="utf-8") for path in SHELL_SCRIPTS]
    modules = {name for text in texts for name in re.findall(r"(?:from|-m) ((?:data_utils|mt_dnn)\.[\w.]+)", text)}
    assert not [name for name in modules if find_spec(name) is None]
