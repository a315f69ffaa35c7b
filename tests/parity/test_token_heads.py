"""Sequence labelling and spans against transformers' models of the same kind: logits, loss and gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoModelForTokenClassification

from data_utils.features import load_tokenizer
from data_utils.prepare import prepare
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef, load_task_defs
from mt_dnn.batches.collate import collate
from mt_dnn.encoders.load import load_encoder
from mt_dnn.tasks.heads import HeadsConfig
from mt_dnn.tasks.losses import MISSING, cross_entropy
from mt_dnn.tasks.model import Model
from tests.tiny import tiny_encoder
from tests.workspace import make_workspace

pytestmark = pytest.mark.usefixtures("in_float64")

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
LAYOUTS = pytest.mark.parametrize(
    ("family", "attention"), [(f, a) for f in ("bert", "xlm-roberta") for a in ("packed", "padded")]
)


def load(folder: Path, name: str, family: str) -> tuple[Path, TaskDef, Prepared]:
    make_workspace(folder, more=[name])
    encoder = tiny_encoder(folder / "other", family)
    task, tokenizer = load_task_defs(folder / "tasks.yml")[name], load_tokenizer(str(encoder))
    options: dict[str, Any] = {"data_dir": folder / "data", "cache_dir": folder / "cache", "max_length": 64}
    return encoder, task, prepare(task, "dev", tokenizer=tokenizer, **options)


def ours_with(reference: Any, folder: Path, task: TaskDef, attention: str, head: str) -> tuple[Model, Any]:
    """Our model with the weights of the reference, and the reference's encoder."""
    base = getattr(reference, reference.base_model_prefix)
    encoder = load_encoder(name=str(folder), dropout=0.0, attention_dropout=0.0, attention=attention)
    encoder.model.load_state_dict(base.state_dict(), strict=False)  # it has no pooler
    model = Model(encoder, {task.name: task}, {task.name: task}, HeadsConfig(dropout=0.0))
    model.heads[task.name].linear.load_state_dict(getattr(reference, head).state_dict())  # type: ignore[union-attr]
    return model, base


def assert_same_gradients(ours: Model, theirs: Any, loss: torch.Tensor, reference: torch.Tensor) -> None:
    loss.backward()
    reference.backward()
    grads = {name: p.grad for name, p in ours.encoder.model.named_parameters()}
    compared = 0
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(grads[name], parameter.grad, atol=1e-9, rtol=1e-9)
        compared += 1
    assert compared > 30


@LAYOUTS
def test_sequence_labelling_equals_transformers(family: str, attention: str, tmp_path: Path) -> None:
    folder, task, split = load(tmp_path, "tagged", family)
    reference = AutoModelForTokenClassification.from_pretrained(folder, num_labels=3, **NO_DROPOUT).train()
    model, base = ours_with(reference, folder, task, attention, "classifier")
    batch = collate(split, range(6), task="tagged")
    padded = {"input_ids": batch.pad(batch.input_ids), "attention_mask": batch.mask[:, 0, 0].long()}
    labels = torch.full((len(batch.input_ids),), -100)
    assert batch.marked is not None and batch.labels is not None
    labels[batch.marked] = batch.labels
    padded_labels = batch.pad(labels + 100) - 100
    theirs = reference(**padded, labels=padded_labels)
    ours = model(batch)
    torch.testing.assert_close(ours, batch.unpad(theirs.logits)[batch.marked], atol=1e-9, rtol=1e-9)
    loss = cross_entropy(ours, batch.labels)
    torch.testing.assert_close(loss, theirs.loss, atol=1e-9, rtol=1e-9)
    assert_same_gradients(model, base, loss, theirs.loss)


@LAYOUTS
def test_spans_equal_transformers(family: str, attention: str, tmp_path: Path) -> None:
    """One example at a time: in a padded batch transformers' loss counts padding as places for an answer."""
    folder, task, split = load(tmp_path, "found", family)
    reference = AutoModelForQuestionAnswering.from_pretrained(folder, **NO_DROPOUT).train()
    model, base = ours_with(reference, folder, task, attention, "qa_outputs")
    rows = [3, 1, 8, 2]
    batch = collate(split, rows, task="found")
    ours = model(batch)
    assert batch.labels is not None
    losses, reference_losses = cross_entropy(ours, batch.labels, reduction="none"), []
    for place, row in enumerate(rows):
        one = collate(split, [row], task="found")
        types = {"token_type_ids": one.token_type_ids[None]} if family == "bert" else {}
        gold = {"start_positions": one.labels[:1], "end_positions": one.labels[1:]}  # type: ignore[index]
        theirs = reference(input_ids=one.input_ids[None], **types, **gold)
        expected = torch.cat([theirs.start_logits, theirs.end_logits])
        length = expected.shape[1]
        torch.testing.assert_close(ours[2 * place : 2 * place + 2, :length], expected, atol=1e-9, rtol=1e-9)
        assert (ours[2 * place : 2 * place + 2, length:] == MISSING).all()
        torch.testing.assert_close(losses[2 * place : 2 * place + 2].mean(), theirs.loss, atol=1e-9, rtol=1e-9)
        reference_losses.append(theirs.loss)
    assert_same_gradients(model, base, losses.mean(), torch.stack(reference_losses).mean())
