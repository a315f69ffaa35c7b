"""The files that mt-dnn init-task writes: what stands in them, when they are refused, and that they are complete."""

from __future__ import annotations

from datetime import date, datetime, time, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_utils.errors import UserError
from data_utils.guess_columns import Asked
from data_utils.rows import find_rows, read_rows
from data_utils.task_def import TaskDef, load_task_defs
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.new_task import NewTask, new_task, next_command


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table(name: str, labels: list[str], count: int = 12, header: str = "Review Text,Sentiment") -> Path:
    rows = [f'"It is number {number}, ""really""",{labels[number % len(labels)]}' for number in range(count)]
    Path(name).write_text("\n".join([header, *rows]) + "\n")
    return Path(name)


def made(train: Path, **options: Any) -> NewTask:
    return new_task(train, **{"asked": Asked(), "encoder": "some/encoder", **options})


def only_task(file: Path) -> TaskDef:
    (task,) = load_task_defs(file).values()
    return task


# Labels that YAML would read as something else, if they were not quoted.
HOSTILE = [
    "yes",
    "No",
    "null",
    "~",
    "1_000",
    "12:30",
    "0123",
    ".5",
    "1e3",
    "a: b",
    "# c",
    "- d",
    "é'",
    "{x}",
    "2026-01-02",
]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([datetime(2020, 1, 31, 12), datetime(2021, 1, 31)], ("2020-01-31T12:00:00", "2021-01-31T00:00:00")),
        ([datetime(2020, 1, 31, 12, tzinfo=timezone.utc)], ("2020-01-31T12:00:00+00:00",)),
        ([date(2020, 1, 31), date(2021, 1, 31)], ("2020-01-31", "2021-01-31")),
        ([time(12), time(13, 30)], ("12:00:00", "13:30:00")),
        ([Decimal("1.50"), Decimal("0.0000001")], ("0.0000001", "1.5000000")),
        ([True, False], ("false", "true")),
        ([1, 2], ("1", "2")),
        ([0.5, 1e-7], ("1e-07", "0.5")),
    ],
)
@pytest.mark.parametrize("listed", [False, True])
def test_labels_of_any_type_in_parquet_are_those_that_reading_the_rows_gives(
    values: list[Any], labels: tuple[str, ...], listed: bool
) -> None:
    texts = [f"It is number {number}" for number in range(12)]
    column = [values[number % len(values)] for number in range(12)]
    if len(values) == 1:
        column, labels = [*column[1:], values[0].replace(year=2022)], (*labels, "2022-01-31T12:00:00+00:00")
    table = {"text": texts, "label": pa.array([[value] for value in column] if listed else column)}
    pq.write_table(pa.table(table), "t_train.parquet")
    new = made(Path("t_train.parquet"), asked=Asked(task_type="multi_label" if listed else "classification"))
    task = only_task(new.task_file)
    assert task.labels == labels and read_rows(find_rows(Path(), task, "train"), task).label is not None


def test_labels_stay_as_they_are_in_the_file(tmp_path: Path) -> None:
    train = table("reviews.csv", HOSTILE, 60)
    new = made(train, asked=Asked(task_type="classification"))
    task = only_task(new.task_file)
    assert task.labels == tuple(sorted(HOSTILE)) and task.files == {"train": "reviews.csv"}
    assert task.columns == {"premise": "Review Text", "label": "Sentiment"}
    assert len(read_rows(find_rows(tmp_path, task, "train"), task)) == 60


def test_one_file_is_divided_into_train_and_dev() -> None:
    new = made(table("my reviews.v2.csv", ["a", "b"], 200))
    assert (f"{new.task_file}", f"{new.run_file}", new.rows) == ("my_reviews.yml", "my_reviews_run.yml", 200)
    config = load_config(new.run_file)
    assert (config.name, config.data.carve, f"{config.data.dir}") == ("my_reviews", 0.1, ".")
    assert config.encoder.name == "some/encoder" and config.task_defs == new.task_file
    said = "none; 10% of the rows, the same in every run (data.carve in my_reviews_run.yml)"
    assert dict(new.said)["--dev"] == said
    assert next_command(new) == "mt-dnn train my_reviews_run.yml"
    few = made(table("few.csv", ["a", "b"], 6))
    assert load_config(few.run_file).data.carve == 0.2


def test_files_beside_it_are_found_by_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "in a folder"
    folder.mkdir()
    for split in ("train", "dev"):
        table(f"{folder}/reviews_{split}.csv", ["a", "b"] if split == "train" else ["a", "c"])
    (tmp_path / "final").mkdir()
    table("final/all.csv", ["a"], header="Review Text,Other")
    new = made(folder / "reviews_train.csv", test=Path("final/all.csv"))
    task = only_task(new.task_file)
    assert task.name == "reviews" and task.splits == ("train", "dev", "test") and task.labels == ("a", "b", "c")
    # All files are in or below the folder of rows, so that another folder has its own.
    assert task.files == {
        "train": "in a folder/reviews_train.csv",
        "dev": "in a folder/reviews_dev.csv",
        "test": "final/all.csv",
    }
    config = load_config(new.run_file)
    assert config.data.carve is None and config.data.dir == tmp_path
    new = made(table("final/other.csv", ["a", "b"]), dev=Path("in a folder/reviews_dev.csv"), name="o")
    assert f"{load_config(new.run_file).data.dir}" == "."  # it is relative, as the first file is
    new = made(Path("final/other.csv"), dev=table("final/../final/dev.csv", ["a", "b"]), name="p")
    assert f"{load_config(new.run_file).data.dir}" == "final" and only_task(new.task_file).files["dev"] == "dev.csv"
    assert read_rows(find_rows(config.data.dir, task, "test"), task, test=True).label is None


@pytest.mark.parametrize(
    ("labels", "placeholder", "key", "expected"),
    [
        (["0", "1"], "-1", "labels", ("0", "1")),
        (["yes", "no"], "0", "labels", ("no", "yes")),
        (["0.5", "4.5"], "-1", "value_range", (0.5, 4.5)),
        (["0.5", "4.5"], "-1.0", "value_range", (0.5, 4.5)),
    ],
)
def test_placeholders_in_test_rows_are_no_labels(
    labels: list[str], placeholder: str, key: str, expected: Any, tmp_path: Path
) -> None:
    train = table("t_train.csv", labels)
    table("t_test.csv", [placeholder])
    task = only_task(made(train).task_file)
    assert getattr(task, key) == expected
    assert read_rows(find_rows(tmp_path, task, "test"), task, test=True).label is None
    table("t_test.csv", labels)
    assert len(read_rows(find_rows(tmp_path, task, "test"), task, test=True).label or ()) == 12


@pytest.mark.parametrize("role", ["train", "dev", "test"])
@pytest.mark.parametrize("output", ["mine.csv", "./mine.csv", "link.csv"])
def test_rows_are_never_replaced(role: str, output: str, tmp_path: Path) -> None:
    for name in ("train.csv", "mine.csv", "mine_run.csv"):
        table(name, ["a", "b"])
    Path("link.csv").symlink_to("mine.csv")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for rows, name in (("mine.csv", output), ("mine_run.csv", "mine.csv")):
        files = {"train": Path("train.csv"), role: Path(rows)}
        with pytest.raises(UserError, match=r"csv: has rows, and would be replaced; choose another name with --output"):
            made(**files, output=Path(name), force=True)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_names_and_folders_are_chosen(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    new = made(table("train.csv", ["a", "b"]), output=Path("tasks/own names.yml"), name="stars")
    assert new.run_file == Path("tasks/own names_run.yml") and only_task(new.task_file).name == "stars"
    assert next_command(new) == "mt-dnn train 'tasks/own names_run.yml'"
    assert only_task(made(Path("train.csv")).task_file).name == "train_task"  # torch uses the name train
    extends = made(table("extends.csv", ["a", "b"]))  # a task file has this key
    assert only_task(extends.task_file).name == "extends_task"


def test_nothing_is_replaced_without_force(tmp_path: Path) -> None:
    train = table("t.csv", ["a", "b"])
    for name in ("t.yml", "t_run.yml"):
        (tmp_path / name).write_text("mine\n")
        with pytest.raises(UserError, match=rf"^{name}: is there already; give --force to replace it, or another name"):
            made(train)
        assert (tmp_path / name).read_text() == "mine\n" and len(list(tmp_path.glob("*.yml"))) == 1
        (tmp_path / name).unlink()
    made(train)
    assert only_task(made(table("t.csv", ["a", "c"]), force=True).task_file).labels == ("a", "c")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("text,label\na b c,x\nd e f,\ng h i,y\n", {}, r"^t.csv:3: no label, but other rows have one"),
        ("text,label\na b c,x\nd e f,y\ng h i\n", {}, r"^t.csv:4: expected 2 columns"),
        ("text,label\na b c,x\na b c,y\n", {}, r"^t.csv: all rows have the same text, so none can be set aside; gi"),
        (
            "text,label\na b c,x\nd e f,y\n",
            {"name": "values"},
            r"^values: torch uses this name; choose another with --na",
        ),
        (
            "text,label\na b c,x\nd e f,y\n",
            {"name": "extends"},
            r"^extends: a task file uses this name; choose another with --na",
        ),
        ("text,label\na b c,x\nd e f,y\n", {"name": "a b"}, r"^t.yml: a b: name: String should match"),
        ("text,label\na b c,x\nd e f,y\n", {"encoder": "${x}"}, r"^t_run.yml: "),
        ("text,label\na b c,x\nd e f,y\n", {"dev": Path("absent.csv")}, r"^absent.csv: cannot be read .No such file"),
        (
            "text,label\na b c,x\nd e f,y\n",
            {"output": Path()},
            r"^\.: is a folder; --output is the name of the task file",
        ),
        ("text,label\na b c,x\nd e f,y\n", {"name": "a\nb"}, r"^--name: 'a\\nb' holds a line break"),
        ("text,label\na b c,x\nd e f,y\n", {"output": Path("absent/t.yml")}, r"^absent/t.yml: cannot be written"),
    ],
)
def test_what_is_refused_leaves_no_file(content: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    Path("t.csv").write_text(content)
    options = {"output": Path("t.yml"), "asked": Asked(task_type="classification"), **options}
    with pytest.raises(UserError, match=message) as error:
        made(Path("t.csv"), **options)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_labels_are_counted_in_the_files_that_are_said() -> None:
    train = table("films_train.csv", ["good", "bad"], 6)
    assert dict(made(train, output=Path("alone.yml")).said)["--label"] == "Sentiment: good (3), bad (3)"
    table("films_dev.csv", ["good", "bad"], 4)
    assert dict(made(train).said)["--label"] == "Sentiment: good (5), bad (5), train and dev together"


def test_empty_texts_are_counted() -> None:
    train = table("films.csv", ["good", "bad"])
    train.write_text(train.read_text() + ',good\n" ",bad\n')
    said = dict(made(train).said)
    assert said["--text"] == "Review Text (data_format: single); 2 of them empty, and trained on too"


def test_a_line_break_in_a_name_of_a_file_is_no_line_of_the_task_file() -> None:
    file = Path("two\nlines: a.csv")
    file.write_text("text,label\na b c,x\nd e f,y\n")
    new = made(file, asked=Asked(task_type="classification"))
    assert Path(new.task_file).read_text().splitlines()[0].startswith(r"# What the task in two\nlines: a.csv is")
