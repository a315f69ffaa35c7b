"""Numbers of papers: every form in which a file holds them, averages by either rule, and how they meet our columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_utils.errors import UserError
from mt_dnn.studies.derived_cells import make_table
from mt_dnn.studies.layout import Entry
from mt_dnn.studies.published import Number, PublishedTable, average, read_scores
from mt_dnn.studies.remarks import remarks
from mt_dnn.studies.sheets import scores_sheet, sheets
from mt_dnn.studies.show import Published, Score
from tests.studies import METHODS, all_records, made_up_grid

# Rows of TAT's table 1, of RAPT's table 2, and of TAT's table 3, as they are printed.
GLUE = {
    "mnli": ["matched_accuracy", "mismatched_accuracy"],
    "qqp": ["accuracy", "f1"],
    "rte": ["accuracy"],
    "qnli": ["accuracy"],
    "mrpc": ["accuracy", "f1"],
    "cola": ["mcc"],
    "sst": ["accuracy"],
    "stsb": ["pearson", "spearman"],
}
TAT = {
    "freelb_dev": [[85.4, 85.5], [91.4, 88.4], [70.4], [91.5], [86.2, 90.3], [59.1], [93.2], [89.7, 89.1], 83.5],
    "tat_dev": [[86.2, 85.9], [91.8, 89.1], [72.6], [92.2], [88.2, 91.5], [58.5], [93.6], [90.8, 89.6], 84.2],
    "large_test": [[86.7, 85.9], [89.3, 72.1], [70.1], [92.7], [85.4, 89.3], [60.5], [94.9], [87.6, 86.5], 82.4],
    "tat_test": [[85.8, 84.8], [89.6, 72.8], [69.7], [92.4], [88.2, 91.1], [59.8], [94.5], [89.7, 89.0], 82.8],
}
RAPT = {
    "standard": [[84.1, 84.3], [90.5, 87.3], [69.3], [90.9], [86.9, 90.7], [58.3], [92.4], [89.9, 89.4], 84.5],
    "smart": [[84.7, 85.2], [90.9, 87.9], [70.8], [91.4], [86.4, 90.5], [58.6], [92.8], [90.2, 89.7], 84.9],
    "best": [[85.3, 85.6], [91.2, 88.2], [70.6], [91.8], [86.9, 90.8], [58.7], [92.8], [90.1, 89.7], 85.1],
}
XNLI = ["en", "fr", "es", "de", "el", "bg", "ru", "tr", "ar", "vi", "th", "zh", "hi", "sw", "ur", "average"]
R3F = [89.4, 84.2, 85.1, 83.7, 83.6, 84.6, 82.3, 80.7, 80.6, 81.1, 79.4, 80.1, 77.3, 72.6, 74.2, 81.2]


def table(columns: Any, rows: Any, names: Published | None = None) -> PublishedTable:
    return PublishedTable({"columns": columns, "rows": rows}, "paper.yml: table1", names)


def glue(rows: dict[str, list[Any]]) -> PublishedTable:
    return table(GLUE, {name: dict(zip([*GLUE, "average"], values, strict=True)) for name, values in rows.items()})


def rounded_average(values: list[Any], rule: str) -> float:
    """Independent of the code: with numpy, and from the printed lists."""
    if rule == "task_means":
        return float(np.mean([np.mean(part) for part in values[:-1]]))
    return float(np.mean(np.concatenate(values[:-1])))


@pytest.mark.parametrize(("rows", "rule"), [(TAT, "task_means"), (RAPT, "all_numbers")])
def test_averages_are_those_of_the_papers_rules(rows: dict[str, list[Any]], rule: str) -> None:
    found = glue(rows)
    for name, values in rows.items():
        scores = {number: value for number, value in found.rows[name].items() if number.task != "average"}
        assert average(scores, rule) == pytest.approx(rounded_average(values, rule))
    strange = {name: (printed, round(exact, 2)) for name, printed, exact in found.strange_averages(rule)}
    # 82.4 is 82.45 rounded down, which is no mistake of the rule
    assert strange == ({"freelb_dev": (83.5, 83.40), "tat_test": (82.8, 82.74)} if rule == "task_means" else {})


def test_a_list_with_its_average_among_the_columns() -> None:
    strange = list(table(XNLI, {"r3f": R3F}).strange_averages("task_means"))
    assert [(name, printed, round(exact, 2)) for name, printed, exact in strange] == [("r3f", 81.2, 81.26)]


def test_every_form_of_a_table() -> None:
    lists = table(["vanilla", "freelb"], {"rte": [85.61, None], "cola": [67.57, 71.12]})
    assert lists.rows["rte"] == {Number("vanilla"): 85.61}
    named = table({"mnli": "accuracy", "stsb": "pearson"}, {"freelb": [90.61, 92.67]})
    assert named.rows["freelb"] == {Number("mnli", "accuracy"): 90.61, Number("stsb", "pearson"): 92.67}
    plain = table(None, {"tat": {"hans": 65.8, "snli": 81.0}})
    assert plain.rows["tat"][Number("hans")] == 65.8


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        (["a", "b"], {"x": [1]}, "table1.rows.x: 1 numbers for 2 columns"),
        ({"a": ["f1", "accuracy"]}, {"x": {"a": [1]}}, "table1.rows.x.a: 1 numbers for 2 metrics"),
        (["a"], {"x": ["n/a"]}, "table1.rows.x.a: 'n/a' is no number; write null where none is printed"),
        (["a"], {"x": 5}, "table1.rows.x: write a list of numbers, or a mapping"),
        (["a"], [1], "table1: write the key rows, a mapping"),
    ],
)
def test_wrong_tables_are_located(columns: Any, rows: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"paper.yml: {message}"):
        table(columns, rows)


def test_scores_of_ours_find_their_metric_in_the_paper() -> None:
    found = glue(TAT)

    def number(task: str, split: str, metric: str) -> Number | None:
        return found.number(Entry({"task": task}, Score(task, split, metric), "", f"{task} {metric}"))

    assert number("mnli", "dev_matched", "accuracy") == Number("mnli", "matched_accuracy")
    assert number("mnli", "dev_mismatched", "accuracy") == Number("mnli", "mismatched_accuracy")
    assert number("qqp", "dev", "f1") == Number("qqp", "f1")
    assert number("qqp", "dev", "mcc") is None and number("wnli", "dev", "accuracy") is None


PAPER = """
table1:
  columns: {rte: [accuracy], mrpc: [accuracy, f1], qqp: [accuracy, f1]}
  rows:
    standard_dev: {rte: [63.5], mrpc: [84.1, 89.0], qqp: [90.9, 88.3], average: 79.9}
    vat_dev: {rte: [71.2], mrpc: [87.7, 91.3], qqp: [91.5, 88.5], average: 83.6}
table2:
  columns: {rte: [accuracy], mrpc: [accuracy, f1]}
  rows:
    standard_dev: {rte: [63.5], mrpc: [84.1, 89.0], average: 75.9}
    vat_dev: {rte: [71.2], mrpc: [87.7, 91.3], average: 80.4}
"""


def grid_with_paper(folder: Path, name: str, statistic: str = "mean", **keys: Any) -> Any:
    (folder / "paper.yml").write_text(PAPER)
    rows = {"plain": "standard_dev", "vat": "vat_dev"}
    published = {"file": str(folder / "paper.yml"), "table": name, "rows": rows, "statistic": statistic}
    return made_up_grid(folder, published=published, **keys)


def test_our_table_stands_beside_the_papers(tmp_path: Path) -> None:
    grid = grid_with_paper(tmp_path, "table2")
    made = make_table(grid, all_records(grid, lambda run, task, *_: 0.7 if task == "rte" else 0.9))
    rows = sheets(made)[0].rows
    assert [row.name for row in rows] == [
        *("plain", "published", "difference"),
        "freelb",
        *("vat", "published", "difference"),
    ]
    assert rows[1].cells == ["63.5", "84.1", "89.0", "75.9 (75.03)"]  # (63.5 + 86.55) / 2
    assert rows[2].cells == ["+6.5", "+5.9", "+1.0", "+5.0"]
    assert rows[5].cells[-1] == "80.4" and rows[5].kind == "published"
    (note,) = [note for note in remarks(made, "") if note.startswith("Averages of the paper")]
    assert "standard_dev 75.9 (75.03)" in note and "vat_dev" not in note


def test_medians_are_compared_with_medians(tmp_path: Path) -> None:
    grid = grid_with_paper(tmp_path, "table2", statistic="median")
    made = make_table(grid, all_records(grid, lambda run, *_: 0.7 + 0.01 * run.seed**2))  # 71, 74, 79
    rows = sheets(made)[0].rows
    assert rows[0].cells[0] == "74.7 ± 4.0" and rows[2].name == "difference of medians"
    assert rows[2].cells[0] == "+10.5"


def test_columns_that_only_the_paper_has_are_missing(tmp_path: Path) -> None:
    grid = grid_with_paper(tmp_path, "table1")
    made = make_table(grid, all_records(grid, lambda *_: 0.8))
    assert [column.name for column in made.columns][-2:] == ["qqp accuracy", "qqp f1"]
    rows = sheets(made)[0].rows
    assert rows[0].cells[-2:] == ["missing", "missing"] and rows[1].cells[-2:] == ["90.9", "88.3"]
    assert rows[1].cells[3] == "75.0"  # over the columns that this table has
    assert "No run of this study has qqp accuracy, qqp f1: these columns are the paper's alone." in remarks(made, "")


def test_time_ratios_stand_beside_the_papers_average(tmp_path: Path) -> None:
    """As in RAPT's table 3: ratios have no unit and two decimals, and their average is printed."""
    paper = "t: {columns: [rte, mrpc, qqp, average], rows: {ratio: [0.75, 0.81, 0.81, 0.79]}}"
    (tmp_path / "paper.yml").write_text(paper)
    published = {"file": str(tmp_path / "paper.yml"), "table": "t", "rows": {"freelb": "ratio"}}
    show = {"rows": "method", "columns": "task", "values": "time_ratio", "reference": "vat", "average": "all_numbers"}
    grid = made_up_grid(tmp_path, published=published, show=show)
    records = all_records(grid, lambda *_: 0.8)
    for record in records.values():
        record["cpu_seconds"] = {"none": 10, "vat": 20, "freelb": 14}[record["mode"]]
    made = make_table(grid, records)
    rows = {row.name: row.cells for row in sheets(made)[0].rows}
    assert rows["freelb"] == ["0.70 ± 0.00", "0.70 ± 0.00", "0.70 ± 0.00", "missing"]
    assert rows["published"] == ["0.75", "0.81", "0.78", "0.81"]
    assert rows["difference"] == ["−0.05", "−0.11", "−0.08", "—"]
    said = "The paper's averages are over the columns of this study. Over all it prints: ratio 0.79."
    assert said in remarks(made, "")
    assert len(sheets(made)) == 2  # times are not tested


def test_wrong_names_are_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"paper.yml: no table 'tabel1', did you mean 'table1'"):
        make_table(grid_with_paper(tmp_path, "tabel1"), {})
    (tmp_path / "paper.yml").write_text(PAPER)
    file = {"file": str(tmp_path / "paper.yml"), "table": "table1"}
    for key, wrong in (("rows", "no row 'vat_dve', did you mean 'vat_dev'"), ("columns", "no column 'vat_dve'")):
        grid = made_up_grid(tmp_path, published={**file, key: {"vat": "vat_dve"}})
        with pytest.raises(UserError, match=f"table1: {wrong}"):
            make_table(grid, {})


def test_methods_as_columns_meet_the_papers_columns(tmp_path: Path) -> None:
    """As in FreeLB's table 4: tasks are rows."""
    paper = "t: {columns: [vanilla, freelb3], rows: {rte: [85.61, 88.13], mrpc: [90.69, 91.42]}}"
    (tmp_path / "paper.yml").write_text(paper)
    published = {
        "file": str(tmp_path / "paper.yml"),
        "table": "t",
        "columns": {"plain": "vanilla", "freelb": "freelb3"},
    }
    show = {"rows": "task", "columns": "method", "reference": "plain", "metrics": {"mrpc": ["accuracy"]}}
    methods = {name: METHODS[name] for name in ("plain", "freelb")}
    grid = made_up_grid(tmp_path, published=published, show=show, axes={"task": ["rte", "mrpc"], "method": methods})
    rows = sheets(make_table(grid, all_records(grid, lambda *_: 0.9)))[0].rows
    assert rows[0].name == "rte accuracy" and rows[1].cells == ["85.61", "88.13"]
    assert rows[4].cells == ["90.69", "91.42"] and rows[5].cells == ["−0.7", "−1.4"]


def test_scores_of_a_test_server_are_rows_beside_the_papers(tmp_path: Path) -> None:
    (tmp_path / "scores.yml").write_text("tat: {rte: [69.0], mrpc: [88.0, 91.0], average: 82.0}")
    paper = table(
        {"rte": ["accuracy"], "mrpc": ["accuracy", "f1"]}, {"tat_test": {"rte": [69.7], "mrpc": [88.2, 91.1]}}
    )
    named = Published(file=Path("p"), table="t", rows={"tat": "tat_dev"}, test_rows={"tat": "tat_test"})
    beside = PublishedTable(
        {"columns": paper.header, "rows": {"tat_test": {"rte": [69.7], "mrpc": [88.2, 91.1]}}}, "p", named
    )
    found = scores_sheet(read_scores(tmp_path / "scores.yml", paper.header), beside, "Test server")
    assert found.header == ["rte accuracy", "mrpc accuracy", "mrpc f1", "average"]
    assert [(row.name, row.cells) for row in found.rows] == [
        ("tat", ["69.0", "88.0", "91.0", "82.0"]),
        ("published", ["69.7", "88.2", "91.1", "—"]),
    ]


def test_a_task_with_one_metric_may_be_named_alone(tmp_path: Path) -> None:
    (tmp_path / "scores.yml").write_text("tat: {rte: 69.7}")
    columns = {"rte": ["accuracy"], "mrpc": ["accuracy", "f1"]}
    beside = table(columns, {"tat": {"rte": [70.0]}})
    found = scores_sheet(read_scores(tmp_path / "scores.yml", columns), beside, "Test server")
    assert found.header == ["rte accuracy"] and [row.cells for row in found.rows] == [["69.7"], ["70.0"]]
    (tmp_path / "scores.yml").write_text("tat: {mrpc: 69.7}")
    with pytest.raises(UserError, match=r"scores.yml.rows.tat.mrpc: 1 number for 2 metrics; write a list"):
        read_scores(tmp_path / "scores.yml", columns)


def test_a_row_that_only_a_test_server_scores_stands_beside_no_dev_set(tmp_path: Path) -> None:
    (tmp_path / "paper.yml").write_text("t: {columns: [rte, mrpc_f1], rows: {plain: [70.0, 88.0]}}")
    file = {"file": str(tmp_path / "paper.yml"), "table": "t"}
    made = make_table(made_up_grid(tmp_path, published={**file, "rows": {"plain": None}}), {})
    assert made.published is not None and not any(cell.published for cell in made.cells.values())
    assert [column.name for column in made.columns] == ["rte accuracy", "mrpc accuracy", "mrpc f1", "average"]
    with pytest.raises(UserError, match="no row 'plane', did you mean 'plain'"):
        make_table(made_up_grid(tmp_path, published={**file, "test_rows": {"tat": "plane"}}), {})
