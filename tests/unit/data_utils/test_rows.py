"""Canonical rows: four formats, plain or compressed, old files, and located refusals."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_utils.errors import MissingRows, UserError
from data_utils.rows import Rows, find_rows, read_rows, write_rows
from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES

PAIR = TaskDef(
    name="nli",
    task_type="classification",
    data_format="pair",
    labels=("no", "yes"),
    **TASK_TYPES["classification"].defaults,
)
SINGLE = PAIR.model_copy(update={"data_format": "single"})
SCORE = TaskDef(
    name="sts", task_type="regression", data_format="pair", value_range=(0, 5), **TASK_TYPES["regression"].defaults
)
FREE = SCORE.model_copy(update={"value_range": None})
CHOICES = TaskDef(
    name="q", task_type="multiple_choice", data_format="choices", **TASK_TYPES["multiple_choice"].defaults
)
TAGS = TaskDef(
    name="t",
    task_type="sequence_labelling",
    data_format="words",
    labels=("O", "B-X"),
    **TASK_TYPES["sequence_labelling"].defaults,
)
RECORDS = [
    {"uid": "a", "label": "yes", "premise": 'he said "x', "hypothesis": "it's, so", "genre": "news"},
    {"uid": "b", "label": "no", "premise": "naïve café", "hypothesis": "句子", "genre": ""},
]
HEADER = "\t".join(RECORDS[0])
TSV = HEADER + "\n" + "".join("\t".join(record.values()) + "\n" for record in RECORDS)


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def check(rows: Rows) -> None:
    assert rows.uid == ["a", "b"] and rows.label == [1, 0]
    assert rows.first == [record["premise"] for record in RECORDS]
    assert rows.second == [record["hypothesis"] for record in RECORDS]
    assert rows.extra == {"genre": ["news", ""]}


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    write(tmp_path / "a.tsv", TSV)
    write(tmp_path / "b.jsonl", "".join(json.dumps(record) + "\n" for record in RECORDS))
    quoted = [",".join('"' + value.replace('"', '""') + '"' for value in row.values()) for row in RECORDS]
    write(tmp_path / "c.csv", "\n".join([HEADER.replace("\t", ","), *quoted]) + "\n")
    pq.write_table(pa.Table.from_pylist(RECORDS), tmp_path / "d.parquet")
    for path in sorted(tmp_path.iterdir()):
        check(read_rows(path, PAIR))
        packed = tmp_path / f"{path.name}.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        check(read_rows(packed, PAIR))


def test_old_tsv_without_header_bom_and_windows_line_ends(tmp_path: Path) -> None:
    body = TSV.split("\n", 1)[1].replace("\tnews\n", "\n").replace("\t\n", "\n")
    rows = read_rows(write(tmp_path / "old.tsv", "\ufeff" + body.replace("\n", "\r\n")), PAIR)
    assert rows.uid == ["a", "b"] and rows.label == [1, 0] and rows.first[0] == 'he said "x'


def test_old_rows_of_choices_and_of_words(tmp_path: Path) -> None:
    two = read_rows(write(tmp_path / "a.tsv", "a\t7,8\t0,1\twhy\tone\ttwo\nb\t9,9\t1,0\twho\tx\ty\n"), CHOICES)
    assert two.label == [1, 0] and two.choices == [["one", "two"], ["x", "y"]] and two.first == ["why", "who"]
    three = read_rows(write(tmp_path / "b.tsv", "a\t1,2,3\t0.5,0,2\twhy\tx\ty\tz\n"), CHOICES)
    assert three.label == [2] and three.choices == [["x", "y", "z"]] and three.extra == {"ruid": ["1,2,3"]}
    assert read_rows(write(tmp_path / "c.tsv", "a\t1,2\t\twhy\tx\ty\n"), CHOICES).label is None
    words = read_rows(write(tmp_path / "d.tsv", """a\t['O', 'B-X', 'O']\t["it's", 'Acme', '[1]']\n"""), TAGS)
    assert words.label == [[0, 1, 0]] and words.first == ["it's Acme [1]"]


def test_unlabelled_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", "uid\tlabel\tpremise\n1\t\tx\n2\t\ty\n")
    assert read_rows(path, SINGLE).label is None
    assert read_rows(write(tmp_path / "u.tsv", "uid\tpremise\n1\tx\n"), SINGLE).label is None
    half = write(tmp_path / "h.tsv", "uid\tlabel\tpremise\n1\tyes\tx\n2\t\ty\n")
    with pytest.raises(UserError, match=r"h\.tsv:3: no label, but other rows have one"):
        read_rows(half, SINGLE)


@pytest.mark.parametrize(
    ("text", "task", "words"),
    [
        ("", SINGLE, "t.tsv: the file is empty"),
        ("uid\tlabel\tpremise\n", SINGLE, "t.tsv: the file is empty"),
        ("uid\tlabel\tpremise\n1\tyes\tx\n", PAIR, "t.tsv: no column 'hypothesis'"),
        ("uid\tlabel\tpremise\n1\tyes\tx\n2\tyes\n", SINGLE, "t.tsv:3: 2 columns, expected 3"),
        ("1\tyes\tx\textra\tmore\n", PAIR, "t.tsv:1: 5 columns, expected 4"),
        ("uid\tlabel\tpremise\n1\tyse\tx\n", SINGLE, "t.tsv:2: label 'yse' is not one of no, yes, did you mean 'yes'?"),
        ("1\tnan\tx\ty\n", SCORE, "t.tsv:1: label 'nan' must be between 0 and 5"),
        ("1\t1.0\tx\ty\n2\t5.1\tx\ty\n", SCORE, "t.tsv:2: label '5.1' must be between 0 and 5"),
        ("1\t1e39\tx\ty\n", FREE, "t.tsv:1: label '1e39' must be finite"),
        ("1\tinf\tx\ty\n", FREE, "t.tsv:1: label 'inf' must be finite"),
        (
            "uid\tlabel\tpremise\tpremise\n1\tyes\tx\ty\n",
            SINGLE,
            "t.tsv: two columns have the name 'premise'; rename one of them",
        ),
        ("1\thigh\tx\ty\n", SCORE, "t.tsv:1: label 'high' is not a number"),
        ("1\t2\twhy\tx\ty\n", CHOICES, "t.tsv:1: 5 columns, expected 6 (uid, ruid, label, premise, choice1, choice2)"),
        (
            "1\t7,8\t1,1\twhy\tx\ty\n",
            CHOICES,
            "t.tsv:1: label '1,1': in a file without a line of column names, write a",
        ),
        ("1\t7,8\t1\twhy\tx\ty\n", CHOICES, "write a number for each of the 2 choices, the highest for the right one"),
        ("1\t7,8\tyes,no\twhy\tx\ty\n", CHOICES, "t.tsv:1: label 'yes,no': in a file without"),
        (
            "1\tO O\tthe cat\n",
            TAGS,
            "t.tsv:1: in a file without a line of column names, write labels and words as lists",
        ),
        ("1\t['O']\t__import__('os')\n", TAGS, "write labels and words as lists"),
        ("1\t['O']\t['the cat']\n", TAGS, "write labels and words as lists"),
        ("1\t['O']\t[1]\n", TAGS, "write labels and words as lists"),
        ("1\t['O']\t" + "[" * 9999 + "\n", TAGS, "write labels and words as lists"),
    ],
)
def test_refusals_name_the_line(tmp_path: Path, text: str, task: TaskDef, words: str) -> None:
    with pytest.raises(UserError) as error:
        read_rows(write(tmp_path / "t.tsv", text), task)
    assert words in str(error.value)


def test_other_refusals(tmp_path: Path) -> None:
    (tmp_path / "bytes.tsv").write_bytes(b"1\tyes\tok\n2\tyes\tcaf\xe9\n")
    with pytest.raises(UserError, match=r"bytes\.tsv:2: not UTF-8"):
        read_rows(tmp_path / "bytes.tsv", SINGLE)
    with pytest.raises(UserError, match=r"j\.jsonl:2: not JSON"):
        read_rows(write(tmp_path / "j.jsonl", '{"uid": "1", "label": "yes", "premise": "x"}\n{\n'), SINGLE)
    with pytest.raises(UserError, match=r"k\.jsonl:2: other columns"):
        lines = '{"uid": "1", "label": "yes", "premise": "x"}\n{"uid": "2", "premise": "x"}\n'
        read_rows(write(tmp_path / "k.jsonl", lines), SINGLE)
    with pytest.raises(UserError, match=r"p\.parquet: not a Parquet file"):
        read_rows(write(tmp_path / "p.parquet", "text"), SINGLE)
    with pytest.raises(UserError, match=r"c\.csv:3: expected 3 columns"):
        read_rows(write(tmp_path / "c.csv", "uid,label,premise\n1,yes,x\n2,yes\n"), SINGLE)


def test_csv_counts_blank_lines_and_keeps_those_inside_quotes(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path / "a.csv", 'uid,label,premise\n\n1,yes,"x\n\ny"\n'), SINGLE)
    assert rows.first == ["x\n\ny"]
    for text, words in (
        ("uid,label,premise\n1,yes,x\n\n2,maybe,y\n", "b.csv:4: label 'maybe'"),
        ('uid,label,premise\n1,yes,"x\n', "b.csv:2: not CSV"),
        ("uid,label,premise,premise\n1,yes,x,y\n", "b.csv: two columns have the name 'premise'; rename one of them"),
    ):
        with pytest.raises(UserError, match=words):
            read_rows(write(tmp_path / "b.csv", text), SINGLE)


def test_damaged_compressed_files_are_named(tmp_path: Path) -> None:
    packed = gzip.compress(b"".join(b"%d\tyes\tx\n" % number for number in range(2000)))
    for content in (packed[:-20], packed[:30] + bytes([packed[30] ^ 255]) + packed[31:], b"no gzip"):
        (tmp_path / "a.tsv.gz").write_bytes(content)
        with pytest.raises(UserError, match=r"a\.tsv\.gz: (the compressed file is damaged|cannot be read)"):
            read_rows(tmp_path / "a.tsv.gz", SINGLE)


def test_jsonl_null_is_empty_and_nested_values_that_nothing_reads_are_kept_as_json(tmp_path: Path) -> None:
    path = write(tmp_path / "n.jsonl", '{"uid": 7, "label": null, "premise": "x", "tokens": ["x"]}\n')
    rows = read_rows(path, SINGLE)
    assert (rows.uid, rows.label, rows.first, rows.extra) == (["7"], None, ["x"], {"tokens": ['["x"]']})


def test_find_names_the_file_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(MissingRows, match=r"nli_train\.tsv: no such file"):
        find_rows(tmp_path, PAIR, "train")
    write(tmp_path / "nli_train.jsonl.gz", "")
    assert find_rows(tmp_path, PAIR, "train").name == "nli_train.jsonl.gz"
    write(tmp_path / "nli_train.tsv", "")
    with pytest.raises(UserError, match="both exist"):
        find_rows(tmp_path, PAIR, "train")


def test_written_rows_read_back_and_nothing_is_half_written(tmp_path: Path) -> None:
    records = [{**RECORDS[0], "premise": "tab\there\nline"}, RECORDS[1]]
    assert write_rows(tmp_path / "w.tsv", records, list(RECORDS[0])) == 2
    rows = read_rows(tmp_path / "w.tsv", PAIR, max_rows=1)
    assert rows.first == ["tab here line"] and len(rows) == 1
    with pytest.raises(KeyError):
        write_rows(tmp_path / "x.tsv", [RECORDS[0], {}], list(RECORDS[0]))
    assert [path.name for path in tmp_path.iterdir()] == ["w.tsv"]
