"""Exports against plain transformers: every family and every task type, in double precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from data_utils.errors import UserError
from mt_dnn.inference.export.forms import FORMS
from mt_dnn.inference.export.model import task_model, tokenizer_of
from mt_dnn.inference.trained import load
from tests.exporting import EXPORTED, assert_same_logits, run_of
from tests.tiny import FAMILIES

pytestmark = pytest.mark.usefixtures("in_float64")

TANH = ("bert", "roberta", "xlm-roberta", "xlm-roberta-xl", "mpnet", "deberta-v2")


def reload(model: Any, task: str, folder: Path) -> Any:
    """The exported model and its tokenizer, as transformers reads them from the disk."""
    built = task_model(model, task)
    built.save_pretrained(folder)
    tokenizer_of(model, built).save_pretrained(folder)
    auto = FORMS[model.task(task).task_type].auto
    return auto.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    ("family", "pooler"), [*((family, "pretrained") for family in TANH), *((family, "family") for family in FAMILIES)]
)
def test_logits_equal_those_of_plain_transformers(family: str, pooler: str, tmp_path: Path) -> None:
    model = load(run_of(tmp_path, family, f"encoder.pooler={pooler}", f"tasks=[{','.join(EXPORTED)}]"))
    for task in EXPORTED:
        exported, tokenizer = reload(model, task, tmp_path / task)
        assert_same_logits(model, exported, tokenizer, task, 1e-6)


def test_deberta_of_the_first_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers has no multiple choice for it."""
    relative = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False}
    monkeypatch.setitem(FAMILIES, "deberta", {**relative, "type_vocab_size": 0, "max_relative_positions": 32})
    model = load(run_of(tmp_path, "deberta", "tasks=[same,tagged,guessed,odd]"))
    for task in ("same", "tagged", "guessed"):
        exported, tokenizer = reload(model, task, tmp_path / task)
        assert_same_logits(model, exported, tokenizer, task, 1e-6)
    with pytest.raises(UserError, match="no such multiple-choice model of the family 'deberta'"):
        task_model(model, "odd")
