"""Multiple choice against transformers' model of the same kind: logits, loss and gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMultipleChoice

from data_utils.features import load_tokenizer
from data_utils.prepare import prepare
from data_utils.task_def import load_task_defs
from mt_dnn.batches.collate import collate
from mt_dnn.encoders.load import load_encoder
from mt_dnn.tasks.heads import HeadsConfig
from mt_dnn.tasks.losses import MISSING, cross_entropy
from mt_dnn.tasks.model import Model
from tests.tiny import tiny_encoder
from tests.workspace import make_workspace

pytestmark = pytest.mark.usefixtures("in_float64")


@pytest.mark.parametrize("attention", ["packed", "padded"])
@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_logits_loss_and_gradients_equal_transformers(family: str, attention: str, tmp_path: Path) -> None:
    make_workspace(tmp_path, more=["odd"])
    folder = tiny_encoder(tmp_path / "other", family)
    task, tokenizer = load_task_defs(tmp_path / "tasks.yml")["odd"], load_tokenizer(str(folder))
    options: dict[str, Any] = {"data_dir": tmp_path / "data", "cache_dir": tmp_path / "cache", "max_length": 64}
    split = prepare(task, "dev", tokenizer=tokenizer, **options)
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    reference = AutoModelForMultipleChoice.from_pretrained(folder, **no_dropout).train()
    base = reference.bert if family == "bert" else reference.roberta
    encoder = load_encoder(name=str(folder), dropout=0.0, attention_dropout=0.0, attention=attention)
    encoder.model.load_state_dict(base.state_dict())
    model = Model(encoder, {"odd": task}, {"odd": task}, HeadsConfig(dropout=0.0))
    model.heads["odd"].linear.load_state_dict(reference.classifier.state_dict())  # type: ignore[union-attr]
    for rows in ([0, 3, 6], [2, 5]):  # two and four choices: transformers takes no ragged batch
        ours = model(collate(split, rows, task="odd"))
        labels = torch.from_numpy(split.labels[rows])  # type: ignore[index]
        lines = (tmp_path / "data" / "odd_dev.tsv").read_text().splitlines()[1:]
        texts = [[text for text in lines[row].split("\t")[2:] if text] for row in rows]
        pairs = [(own[0], choice) for own in texts for choice in own[1:]]
        padded = tokenizer(
            [a for a, _ in pairs], [b for _, b in pairs], padding=True, return_tensors="pt", return_token_type_ids=True
        )
        if family != "bert":
            padded.pop("token_type_ids")  # it knows one type
        theirs = reference(
            **{key: value.view(len(rows), -1, value.shape[1]) for key, value in padded.items()}, labels=labels
        )
        torch.testing.assert_close(ours, theirs.logits, atol=1e-9, rtol=1e-9)
        loss = cross_entropy(ours, labels)
        torch.testing.assert_close(loss, theirs.loss, atol=1e-9, rtol=1e-9)
        model.zero_grad()
        reference.zero_grad()
        loss.backward()
        theirs.loss.backward()
        grads = {name: p.grad for name, p in base.named_parameters()}
        for name, parameter in encoder.model.named_parameters():
            torch.testing.assert_close(parameter.grad, grads[name], atol=1e-9, rtol=1e-9)


def test_a_ragged_batch_is_its_examples(tmp_path: Path) -> None:
    make_workspace(tmp_path, more=["odd"])
    task = load_task_defs(tmp_path / "tasks.yml")["odd"]
    tokenizer = load_tokenizer(str(tmp_path / "encoder"))
    options: dict[str, Any] = {"data_dir": tmp_path / "data", "cache_dir": tmp_path / "cache", "max_length": 64}
    split = prepare(task, "dev", tokenizer=tokenizer, **options)
    model = Model(
        load_encoder(name=str(tmp_path / "encoder")), {"odd": task}, {"odd": task}, HeadsConfig(dropout=0.0)
    ).eval()
    rows = [4, 0, 2, 1]
    together = model(collate(split, rows, task="odd"))
    for place, row in enumerate(rows):
        alone = model(collate(split, [row], task="odd"))[0]
        assert len(alone) == 2 + row % 3
        torch.testing.assert_close(together[place, : len(alone)], alone, atol=1e-9, rtol=0)
        assert (together[place, len(alone) :] == MISSING).all()
