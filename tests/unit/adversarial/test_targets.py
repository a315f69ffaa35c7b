"""Targets of TAT where options are places: in a text, or in a list of choices."""

from __future__ import annotations

from pathlib import Path

import torch

from data_utils.features import load_tokenizer
from data_utils.prepare import prepare
from data_utils.task_def import load_task_defs
from mt_dnn.adversarial.tally import Choices
from mt_dnn.adversarial.tat import _allowed
from mt_dnn.batches.collate import collate
from mt_dnn.tasks.losses import MISSING
from tests.workspace import make_workspace


def test_a_wrong_answer_lies_in_the_context(tmp_path: Path) -> None:
    """Every token of it but the right one is drawn, and none of question, special tokens and padding."""
    make_workspace(tmp_path, more=["found"])
    task, tokenizer = load_task_defs(tmp_path / "tasks.yml")["found"], load_tokenizer(str(tmp_path / "encoder"))
    split = prepare(
        task, "dev", tokenizer=tokenizer, data_dir=tmp_path / "data", cache_dir=tmp_path / "c", max_length=12, stride=2
    )
    assert len(split) > len(split.firsts)
    batch = collate(split, range(8), task="found").repeated(2)
    assert batch.labels is not None and not batch.is_even
    logits = torch.zeros(32, batch.longest)
    logits[batch.mask[:, 0, 0].logical_not().repeat_interleave(2, 0)] = MISSING
    chances = torch.rand(400, 1, generator=torch.Generator().manual_seed(1)).expand(400, 32)
    allowed = _allowed(logits, batch)
    drawn = torch.stack([Choices().sample(batch.labels, own, own, allowed) for own in chances])
    separator = tokenizer.convert_tokens_to_ids("[SEP]")
    for place, ids in enumerate(batch.input_ids.split(batch.lengths.tolist())):
        middle, last = (ids == separator).nonzero()[:, 0].tolist()  # a question before the first, a context after it
        for column in (2 * place, 2 * place + 1):
            expected = set(range(middle + 1, last)) - {int(batch.labels[column])}
            assert set(drawn[:, column].tolist()) == expected and expected


def test_where_nothing_is_wrong_the_target_is_the_first_option() -> None:
    logits = torch.full((2, 3), MISSING)
    logits[0, 0] = logits[1, 2] = 0.0
    assert Choices().sample(torch.tensor([0, 2]), torch.rand(2), torch.rand(2), logits).tolist() == [0, 0]
