"""Balance of losses: factors by the number of options, and uncertainty against autograd's gradient of its formula."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from data_utils.errors import UserError
from mt_dnn.batches.batch import Batch
from mt_dnn.batches.collate import collate
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.run import Run
from mt_dnn.training.balance import Uncertainty
from mt_dnn.training.step import Stepper
from tests.parts import Parts, parts
from tests.unit.training.test_step import OPTIONS, scaled, with_tasks
from tests.workspace import MORE_TASKS, make_workspace


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("balance")
    make_workspace(folder, more=list(MORE_TASKS))
    return folder


def build(folder: Path, balance: str, *options: str) -> Parts:
    return parts(folder, *OPTIONS, f"train.loss_balance={balance}", *options)


def batch_of(run: Parts, task: str, rows: list[int]) -> Batch:
    return collate(run.train_splits[task], rows, task=task)


def test_log_classes_divides_by_the_log_of_what_a_guess_chooses_from(folder: Path) -> None:
    run = build(folder, "log_classes")
    groups: dict[str, Any] = {name: run.train_splits[name].groups for name in ("odd", "gap")}
    choices, gaps = (np.diff(offsets).mean() for offsets in groups.values())
    tokens = np.diff(run.train_splits["found"].sequence_offsets).mean()
    vocabulary = run.model.encoder.vocab_size
    assert 2 < choices < 4 and 5 < tokens < 20
    options = {"same": 2, "negated": 2, "linked": 2, "marks": 2, "tagged": 3, "chained": 3}
    options |= {"odd": choices, "found": tokens, "gap": gaps, "graded": 4, "guessed": vocabulary}
    factors = {name: run.stepper.balance.factor(name) for name in run.tasks.trained}
    assert factors == {"overlap": 1.0, **{name: pytest.approx(1 / math.log(n)) for name, n in options.items()}}
    plain = build(folder, "none")
    losses = [one.stepper([batch_of(one, "tagged", [0, 1, 2])])[0].item() for one in (run, plain)]
    assert losses[0] == pytest.approx(losses[1] / math.log(3))


def objective(losses: dict[str, float], shares: dict[str, float], s: dict[str, Tensor]) -> Tensor:
    """Σ_t share_t (c_t exp(−s_t) L_t + ½ s_t)."""
    c = {"same": 1.0, "overlap": 0.5}
    return sum((shares[t] * (c[t] * torch.exp(-s[t]) * losses[t] + s[t] / 2) for t in losses), torch.zeros(()))


@pytest.mark.parametrize("mode", ["none", "freelb", "vat", "freeat"])
def test_uncertainty_descends_the_gradient_of_its_objective(folder: Path, mode: str) -> None:
    """Whatever number of losses a mode makes of a batch, s counts once."""
    still = ["optimizer.lr=1e-30", f"adversary.mode={mode}"]  # so that both runs see the same losses
    run, plain = build(folder, "uncertainty", *still, "train.balance_lr=0.5"), build(folder, "none", *still)
    updates = [[("same", [0, 1, 2]), ("overlap", [0]), ("same", [5])], [("overlap", [1, 2])]]
    stepper, plain_stepper = (with_tasks(one.stepper, overlap={"loss_weight": 3.0}) for one in (run, plain))
    s = {name: torch.zeros((), requires_grad=True) for name in ("same", "overlap")}
    for update in updates:
        rows = {name: sum(len(own) for task, own in update if task == name) for name, _ in update}
        examples = sum(rows.values())
        shares = {name: (3.0 if name == "overlap" else 1.0) * count / examples for name, count in rows.items()}
        losses = {}
        for name, count in rows.items():  # the plain loss of each task's batches
            batches = [batch_of(plain, task, own) for task, own in update if task == name]
            losses[name] = sum(batch.size * plain_loss(plain_stepper, batch) for batch in batches) / count
        expected = objective(losses, shares, s)
        loss, _, _ = stepper([batch_of(run, task, own) for task, own in update])
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        gradients = torch.autograd.grad(expected, [s[name] for name in losses])
        for name, gradient in zip(losses, gradients, strict=True):
            s[name] = (s[name] - 0.5 * gradient).detach().requires_grad_()
        found = stepper.balance.state_dict()
        assert {name: found[name] for name in s} == {name: pytest.approx(v.item(), abs=1e-5) for name, v in s.items()}
    assert found["negated"] == 0 and abs(found["overlap"]) > 0.1  # the first task was in no update


def plain_loss(stepper: Stepper, batch: Batch) -> float:
    """Mean loss of a batch, without the task's weight."""
    torch.manual_seed(0)
    loss, _, _ = stepper([batch])
    return loss.item() / stepper.tasks[batch.task].loss_weight


def test_factors_go_to_one_half_of_the_inverse_loss(folder: Path) -> None:
    run = build(folder, "uncertainty")
    balance = Uncertainty(run.tasks.trained, 0.1, torch.device("cpu"))
    for _ in range(600):
        shares = {"same": 0.4, "overlap": 0.6}
        losses = {t: share * balance.factor(t) * {"same": 0.2, "overlap": 7.0}[t] for t, share in shares.items()}
        balance.update(losses, shares)  # type: ignore[arg-type]
    assert balance.figures()["same"] == pytest.approx(1 / (2 * 0.2), rel=1e-3)
    assert balance.figures()["overlap"] == pytest.approx(1 / (2 * 7.0), rel=1e-3)


def test_an_overflow_leaves_the_balance_alone(folder: Path) -> None:
    run = build(folder, "uncertainty")
    stepper = scaled(run.stepper)
    handle = run.model.heads["same"].linear.weight.register_hook(lambda gradient: gradient * math.inf)  # type: ignore
    stepper([batch_of(run, "same", [0, 1])])
    assert stepper.balance.state_dict()["same"] == 0
    handle.remove()
    stepper([batch_of(run, "same", [0, 1])])
    assert stepper.balance.state_dict()["same"] != 0


def test_learned_factors_are_logged(folder: Path, tmp_path: Path) -> None:
    options = [f"output={tmp_path / 'run'}", "tasks=[same,overlap]", "train.max_steps=10"]
    run = Run(load_config(folder / "run.yml", [*OPTIONS, "train.loss_balance=uncertainty", *options]))
    run()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = [line["loss_factors"] for line in lines if line["event"] == "train"]
    assert len(logged) == 2 and logged[-1] == run.parts.stepper.balance.figures() and logged[0] != logged[-1]
    assert logged[-1].keys() == {"same", "overlap"} and 0.4 < logged[-1]["overlap"] < 0.6


@pytest.mark.parametrize("balance", ["log_classes", "uncertainty"])
def test_one_task_has_nothing_to_balance(folder: Path, balance: str) -> None:
    with pytest.raises(UserError, match=r"^train\.loss_balance: .* set it to none"):
        build(folder, balance, "tasks=[same]")
