"""``extends`` in task files: which file is meant, what replaces what, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_utils.errors import UserError
from data_utils.extends import merged
from data_utils.old_mtdnn import loss_notices
from data_utils.task_def import load_task_defs
from tests import ROOT

BASE = """
rte: {task_type: classification, data_format: pair, labels: [no, entailment], metrics: [accuracy]}
stsb: {task_type: regression, data_format: pair, metrics: [pearson], kd_loss: mse}
""".replace("[no,", '["no",')


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_mappings_are_merged_and_all_else_is_replaced() -> None:
    below = {"a": {"x": 1, "y": [1, 2]}, "b": [1], "c": 1, "d": {"z": 1}}
    above = {"a": {"y": [3]}, "b": None, "d": 2, "e": 5}
    assert merged(below, above) == {"a": {"x": 1, "y": [3]}, "b": None, "c": 1, "d": 2, "e": 5}
    assert below["a"] == {"x": 1, "y": [1, 2]}


def test_a_task_file_changes_single_keys_of_another(tmp_path: Path) -> None:
    write(tmp_path / "base" / "tasks.yml", BASE)
    text = "extends: ../base/tasks.yml\nrte: {metrics: [mcc], dropout: 0.2}\n"
    mine = write(tmp_path / "mine" / "tasks.yml", text + "new: {task_type: classification, data_format: single}\n")
    base, found = load_task_defs(tmp_path / "base" / "tasks.yml"), load_task_defs(mine)
    assert list(found) == ["rte", "stsb", "new"]
    assert found["stsb"] == base["stsb"]
    assert found["rte"] == base["rte"].model_copy(update={"metrics": ("mcc",), "dropout": 0.2})


def test_files_may_extend_each_other_in_a_row(tmp_path: Path) -> None:
    write(tmp_path / "a.yml", BASE)
    write(tmp_path / "b.yml", "extends: a.yml\nrte: {dropout: 0.2, loss_weight: 2.0}\n")
    found = load_task_defs(write(tmp_path / "c.yml", "extends: b.yml\nrte: {dropout: null}\n"))["rte"]
    assert (found.dropout, found.loss_weight) == (None, 2.0)


def test_a_file_of_the_toolkit_can_be_extended_from_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = write(tmp_path / "mine.yml", "extends: task_defs/glue.yml\nrte: {dropout: 0.3}\n")
    found = load_task_defs(mine)
    assert found["rte"].dropout == 0.3 and list(found) == list(load_task_defs(ROOT / "task_defs" / "glue.yml"))


def test_errors_name_the_file_that_has_the_fault(tmp_path: Path) -> None:
    base = write(tmp_path / "base.yml", BASE + "bad: {task_type: classification, data_format: sinlge}\n")
    mine = write(tmp_path / "mine.yml", "extends: base.yml\nrte: {droput: 0.1}\n")
    with pytest.raises(UserError) as caught:
        load_task_defs(mine)
    assert str(caught.value) == f"{mine}: rte: unknown key 'droput', did you mean 'dropout'?"
    write(mine, "extends: base.yml\n")
    with pytest.raises(UserError) as caught:
        load_task_defs(mine)
    assert str(caught.value).startswith(f"{base}: bad: data format 'sinlge' is not supported")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: none.yml", "{0}/mine.yml: extends: {0}/none.yml: no such file; its path counts from the folder of"),
        ("extends: .", "{0}/mine.yml: extends: {0}: no such file"),
        ("extends: mine.yml", "{0}/mine.yml: extends: {0}/mine.yml extends {0}/mine.yml, in a circle"),
        (
            "extends: other.yml",
            "{0}/other.yml: extends: {0}/mine.yml extends {0}/other.yml extends {0}/mine.yml, in a",
        ),
        (
            "extends: [a.yml, b.yml]",
            "{0}/mine.yml: extends: write the path of a file, such as 'extends: base.yml' (got [",
        ),
        ("extends: {a: b}", "{0}/mine.yml: extends: write the path of a file"),
        ("extends: ''", "{0}/mine.yml: extends: write the path of a file"),
        ("extends: broken.yml", "{0}/broken.yml:2: not readable as YAML"),
        ("extends: list.yml", "{0}/list.yml: write a mapping from task names"),
    ],
)
def test_what_cannot_be_extended_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path / "other.yml", "extends: mine.yml\n")
    write(tmp_path / "broken.yml", "a: [1\n")
    write(tmp_path / "list.yml", "[1, 2]\n")
    with pytest.raises(UserError) as caught:
        load_task_defs(write(tmp_path / "mine.yml", text + "\n"))
    assert str(caught.value).startswith(message.format(tmp_path)) and "\n" not in str(caught.value)


def test_an_old_loss_is_told_from_the_file_below_too(tmp_path: Path) -> None:
    text = "rte: {task_type: classification, data_format: pair, kd_loss: HLCriterion}\n"
    base = write(tmp_path / "base.yml", text)
    mine = write(tmp_path / "mine.yml", "extends: base.yml\n")
    assert len(loss_notices(base, ["rte"])) == len(loss_notices(mine, ["rte"])) == 1
