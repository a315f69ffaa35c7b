"""The SAN head against the equations of its paper, written out one example at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data_utils.errors import UserError
from data_utils.features import load_tokenizer
from data_utils.prepare import prepare
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef, load_task_defs
from mt_dnn.batches.collate import collate
from mt_dnn.encoders.load import load_encoder
from mt_dnn.tasks.heads import HeadsConfig
from mt_dnn.tasks.model import Model
from mt_dnn.tasks.san import SANHead
from tests.tiny import tiny_encoder
from tests.workspace import make_workspace

pytestmark = pytest.mark.usefixtures("in_float64")


def load(folder: Path, family: str) -> tuple[Path, TaskDef, Prepared, Any]:
    make_workspace(folder, more=["linked"])
    encoder = tiny_encoder(folder / "other", family)
    task, tokenizer = load_task_defs(folder / "tasks.yml")["linked"], load_tokenizer(str(encoder))
    options: dict[str, Any] = {"data_dir": folder / "data", "cache_dir": folder / "cache", "max_length": 64}
    return encoder, task, prepare(task, "dev", tokenizer=tokenizer, **options), tokenizer


def reasoned(head: SANHead, first: Tensor, second: Tensor) -> list[Tensor]:
    """Logits (C,) of each step from the states of two texts, (m, H) and (n, H), without dropout."""
    cell = head.cell

    def gru(x: Tensor, s: Tensor) -> Tensor:
        (ir, iz, io), (hr, hz, ho) = (
            (w @ v + b).chunk(3) for w, v, b in ((cell.weight_ih, x, cell.bias_ih), (cell.weight_hh, s, cell.bias_hh))
        )
        update = torch.sigmoid(iz + hz)
        return (1 - update) * torch.tanh(io + torch.sigmoid(ir + hr) * ho) + update * s

    weights = torch.stack([head.summary.weight[0] @ token + head.summary.bias[0] for token in second]).softmax(0)
    s = sum((weight * token for weight, token in zip(weights, second, strict=True)), torch.zeros(()))
    answers = []
    for _ in range(head.steps):
        beta = torch.stack([token @ (head.attention.weight @ s + head.attention.bias) for token in first]).softmax(0)
        x = sum((weight * token for weight, token in zip(beta, first, strict=True)), torch.zeros(()))
        answers.append(head.linear.weight @ torch.cat([s, x, (s - x).abs(), s * x]) + head.linear.bias)
        s = gru(x, s)
    return answers


@pytest.mark.parametrize("outputs", [3, 1])
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_the_head_is_that_of_the_paper(family: str, outputs: int, tmp_path: Path) -> None:
    _, _, split, tokenizer = load(tmp_path, family)
    torch.manual_seed(3)
    head = SANHead(32, outputs, 0.0, 0.3, steps=4, prediction_dropout=0.3)
    hidden, rows = torch.randn(int(split.lengths[:5].sum()), 32), range(5)
    batch = collate(split, rows, task="linked")
    ours = head.eval()(hidden, batch)
    lines = (tmp_path / "data" / "linked_dev.tsv").read_text().splitlines()[1:]
    for row, states in zip(rows, hidden.split(batch.lengths.tolist()), strict=True):
        counts = [len(tokenizer(text, add_special_tokens=False).input_ids) for text in lines[row].split("\t")[2:]]
        between = len(states) - sum(counts) - 2  # one [SEP], or two </s>
        first = states[1 : 1 + counts[0]]
        second = states[1 + counts[0] + between : -1]
        assert len(second) == counts[1]
        steps = reasoned(head, first, second)
        if outputs == 1:
            torch.testing.assert_close(ours[row], torch.stack(steps).mean(0), atol=1e-9, rtol=1e-9)
        else:
            mean = torch.stack([step.softmax(0) for step in steps]).mean(0)
            torch.testing.assert_close(ours[row].exp(), mean, atol=1e-9, rtol=1e-9)


def test_prediction_dropout_keeps_at_least_one_step() -> None:
    """The answer of each example is a mean over some of its steps, every step is sometimes left out, never all."""
    torch.manual_seed(1)
    head = SANHead(4, 2, 0.0, 0.3, steps=3, prediction_dropout=0.9).train()
    kept = head._kept(torch.zeros(3, 4000, 2))[..., 0]
    assert set(kept.unique().tolist()) == {0.0, 1.0} and kept.sum(0).min() == 1
    none_but_best = 0.9**3
    assert kept.mean().item() == pytest.approx(0.1 + none_but_best / 3, abs=0.02)
    assert head.eval()._kept(torch.zeros(3, 5, 2)).all()


def test_steps_without_prediction_dropout_are_averaged_in_logits_that_sum_to_one(tmp_path: Path) -> None:
    folder, task, split, _ = load(tmp_path, "bert")
    options = HeadsConfig(dropout=0.1, san_steps=2, san_prediction_dropout=0.5)
    model = Model(load_encoder(name=str(folder)), {"linked": task}, {"linked": task}, options).train()
    logits = model(collate(split, range(8), task="linked"))
    assert logits.exp().sum(1).allclose(torch.ones(8), atol=1e-9)
    assert model.heads["linked"].steps == 2
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.heads.parameters())


def test_an_empty_sentence_reads_the_first_token(tmp_path: Path) -> None:
    folder, task, _, tokenizer = load(tmp_path, "bert")
    (tmp_path / "data" / "linked_test.tsv").write_text("uid\tlabel\tpremise\thypothesis\nu\t\tthe cat\t\n")
    options: dict[str, Any] = {"data_dir": tmp_path / "data", "cache_dir": tmp_path / "cache", "max_length": 64}
    split = prepare(task, "test", tokenizer=tokenizer, **options)
    model = Model(load_encoder(name=str(folder)), {"linked": task}, {"linked": task}, HeadsConfig()).eval()
    assert model(collate(split, [0], task="linked")).isfinite().all()


def test_a_tokenizer_that_cannot_tell_is_refused(tmp_path: Path) -> None:
    _, task, _, tokenizer = load(tmp_path, "bert")

    class Slow:
        is_fast = False

        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

    slow: Any = Slow()
    options: dict[str, Any] = {"data_dir": tmp_path / "data", "cache_dir": tmp_path / "cache", "max_length": 60}
    with pytest.raises(UserError, match=r"enable_san: Slow .*cannot say which text.*; set it to false"):
        prepare(task, "dev", tokenizer=slow, **options)
