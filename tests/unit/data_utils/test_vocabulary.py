"""Tokenizers without a vocabulary are refused; unknown tokens are counted, told and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_utils.errors import UserError
from data_utils.features import load_tokenizer
from data_utils.prepare import prepare
from data_utils.prepared import Prepared, size_figures
from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES
from data_utils.vocabulary import check_unknown
from tests.golden.runner import CommandError, run_command
from tests.tiny import FAMILIES, tiny_encoder, tiny_tokenizer
from tests.workspace import make_workspace

TASK = TaskDef(
    name="nli",
    task_type="classification",
    data_format="pair",
    labels=("no", "yes"),
    **TASK_TYPES["classification"].defaults,
)
UNKNOWN = "Ж"  # no character of the tiny vocabulary


def prepared(folder: Path, text: str) -> Prepared:
    """One row with this text and another, which has three known tokens."""
    tiny_tokenizer(folder)
    (folder / "nli_train.tsv").write_text(f"1\tyes\t{text}\tthe cat sees\n")
    tokenizer = load_tokenizer(str(folder))
    return prepare(TASK, "train", data_dir=folder, cache_dir=folder / "cache", tokenizer=tokenizer, max_length=32)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_without_tokenizer_files_is_one_clear_line(family: str, tmp_path: Path) -> None:
    for file in tiny_encoder(tmp_path, family).glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UserError, match=r"vocabulary file is missing|cannot be loaded") as caught:
        load_tokenizer(str(tmp_path))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "share"), [("the cat", 0), (UNKNOWN, 1 / 4), (f"{UNKNOWN} {UNKNOWN} {UNKNOWN}", 0.5)])
def test_the_share_of_unknown_tokens(text: str, share: float, tmp_path: Path) -> None:
    """Special tokens do not count: the rows have two to four tokens of text and three further ones."""
    split = prepared(tmp_path, text)
    assert split.manifest["unknown_share"] == share and size_figures(split)[-1] == f"{share:.1%}"


def test_rows_that_an_older_version_prepared_are_opened(tmp_path: Path) -> None:
    first = prepared(tmp_path, UNKNOWN)
    file = first.path / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["unknown_share"]
    file.write_text(json.dumps(manifest))
    again = prepared(tmp_path, UNKNOWN)
    assert again.path == first.path and again.manifest["unknown_share"] == 1 / 4
    assert "unknown_share" not in json.loads(file.read_text())


def test_many_unknown_tokens_are_told_and_more_are_refused(tmp_path: Path) -> None:
    splits = {("nli", "train"): prepared(tmp_path, UNKNOWN)}
    (notice,) = check_unknown(splits, most=0.5)
    assert notice.startswith(f"{tmp_path / 'nli_train.tsv'}: ") and "25%" in notice
    with pytest.raises(UserError, match=r"25% of the tokens.*data\.max_unknown_share"):
        check_unknown(splits, most=0.2)
    (tmp_path / "known").mkdir()
    assert check_unknown({("nli", "train"): prepared(tmp_path / "known", "the cat")}, most=0) == []


def test_training_on_unknown_tokens_needs_a_setting(tmp_path: Path) -> None:
    run_file = make_workspace(tmp_path, train_rows=16)
    file = tmp_path / "data" / "negated_train.tsv"
    header, *rows = file.read_text().splitlines()
    fields = [row.split("\t") for row in rows]
    file.write_text("\n".join([header, *(f"{uid}\t{label}\t{UNKNOWN} {UNKNOWN}" for uid, label, _ in fields)]) + "\n")
    command = ["train", str(run_file), 'tasks=["negated"]', "train.max_steps=1"]
    with pytest.raises(CommandError, match=r"negated_train\.tsv: .* 100% .*data\.max_unknown_share"):
        run_command(*command)
    assert "does not know 100% of the tokens" in run_command(*command, "data.max_unknown_share=1")
    data, encoder = ("--data", str(tmp_path / "data")), ("--encoder", str(tmp_path / "encoder"))
    table = run_command("prepare", str(tmp_path / "tasks.yml"), *data, *encoder)
    (row,) = [line for line in table.splitlines() if line.split()[:2] == ["negated", "train"]]
    assert row.split()[-1] == "100.0%"
