"""A whole training run equals a plain transformers loop: same weights, batches and optimizer, dropout off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, get_linear_schedule_with_warmup

from mt_dnn.runs.build import build_plan
from mt_dnn.runs.config_file import load_config
from mt_dnn.training.loop import Position, train
from tests.parts import parts

pytestmark = pytest.mark.usefixtures("in_float64")

OPTIONS = [
    "optimizer.name=adamw",
    "optimizer.lookahead.enabled=false",
    "encoder.dropout=0",
    "encoder.attention_dropout=0",
    "heads.dropout=0",
]


@pytest.mark.parametrize("task", ["same", "overlap"])
def test_losses_and_weights_follow_plain_transformers(workspace: Path, task: str) -> None:
    options = [*OPTIONS, f"tasks=[{task}]"]
    run, config = parts(workspace, *options), load_config(workspace / "run.yml", options)
    plain: Any = AutoModelForSequenceClassification.from_pretrained(
        workspace / "encoder",
        num_labels=run.tasks.trained[task].n_class,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        problem_type="regression" if task == "overlap" else "single_label_classification",
    )
    plain.bert.load_state_dict(run.model.encoder.model.state_dict())
    head: Any = run.model.heads[task]
    plain.classifier.load_state_dict(head.linear.state_dict())
    split = run.train_splits[task]
    decay = [p for p in plain.parameters() if p.ndim > 1]
    groups: list[dict[str, Any]] = [
        {"params": decay},
        {"params": [p for p in plain.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.optimizer.lr, weight_decay=config.optimizer.weight_decay)
    schedule = get_linear_schedule_with_warmup(optimizer, round(0.1 * run.plan.total_steps), run.plan.total_steps)
    plan = [part for epoch in range(2) for (part,) in build_plan(config, {task: len(split)}).epoch(epoch)]
    steps = train(run.stepper, run.train_splits, run.plan, device=run.device, start=Position())
    for part, step in zip(plan, steps, strict=True):
        bounds = [slice(split.offsets[row], split.offsets[row + 1]) for row in part.rows]
        inputs = run.tokenizer.pad(
            {
                "input_ids": [split.tokens[bound].tolist() for bound in bounds],
                "token_type_ids": [split.token_types[bound].tolist() for bound in bounds],
            },
            return_tensors="pt",
        )
        assert split.labels is not None
        labels = torch.from_numpy(split.labels[part.rows])
        loss = plain(**inputs, labels=labels.double() if labels.is_floating_point() else labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        assert step.loss.item() == pytest.approx(loss.item(), abs=1e-10)
    theirs = dict(plain.bert.named_parameters())
    worst = max((p - theirs[n]).abs().max().item() for n, p in run.model.encoder.model.named_parameters())
    assert worst < 1e-8  # AdamW turns rounding in tiny gradients into a small part of a step


def test_packed_and_padded_runs_agree(workspace: Path) -> None:
    """The same configuration with the encoder forced to padding gives the same losses."""
    losses = []
    for attention in ("packed", "padded"):
        run = parts(workspace, *OPTIONS, f"encoder.attention={attention}")
        steps = train(run.stepper, run.train_splits, run.plan, device=run.device, start=Position())
        losses.append([step.loss.item() for _, step in zip(range(8), steps, strict=False)])
    np.testing.assert_allclose(losses[0], losses[1], atol=1e-10, rtol=0)


def test_seeds_make_different_heads_but_the_same_seed_the_same(workspace: Path) -> None:
    def head(seed: int) -> torch.Tensor:
        heads: Any = parts(workspace, f"seed={seed}").model.heads
        return heads["same"].linear.weight

    assert head(1).equal(head(1))
    assert not head(1).equal(head(2))
