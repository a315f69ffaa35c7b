"""PCGrad against algorithm 1 of its paper, written out in numpy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from data_utils.errors import UserError
from mt_dnn.batches.batch import Share
from mt_dnn.batches.collate import collate
from mt_dnn.training.surgery import PCGrad
from tests.parts import parts
from tests.unit.training.test_step import OPTIONS, scaled, weights
from tests.workspace import make_workspace

pytest.importorskip("torchjd", reason="the extra pcgrad is not installed")
SEED = 7
MIXED = ["train.accumulate=3", "train.mix_tasks=true", "train.clip_norm=null", "optimizer.lr=1"]
SURGERY = "train.gradient_surgery=pcgrad"
ROWS = {"same": [0, 1, 2], "renamed": [0, 1, 2], "overlap": [0, 1]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ "renamed" trains the head of "same" with the opposite labels, so that the two conflict."""
    folder = tmp_path_factory.mktemp("surgery")
    make_workspace(folder, more=["renamed"])
    rows = (folder / "data" / "same_train.tsv").read_text(encoding="utf-8")
    flipped = rows.replace("\tsame\t", "\tother\t").replace("\tdifferent\t", "\tsame\t")
    (folder / "data" / "renamed_train.tsv").write_text(flipped, encoding="utf-8")
    return folder


def algorithm_1(gradients: np.ndarray, seed: int) -> np.ndarray:
    """Σ_i g_i^PC of the rows of (tasks, weights); the random orders are those of torch's generator with this seed."""
    generator, tasks = torch.Generator().manual_seed(seed), len(gradients)
    projected = gradients.copy()
    for i in range(tasks):
        for j in torch.randperm(tasks, generator=generator).tolist():
            if j != i and projected[i] @ gradients[j] < 0:
                projected[i] -= projected[i] @ gradients[j] / (gradients[j] @ gradients[j]) * gradients[j]
    return projected.sum(0)


@pytest.mark.parametrize("seed", range(4))
def test_shared_weights_get_the_sum_of_algorithm_1(seed: int) -> None:
    generator = np.random.default_rng(seed)
    parameters = [nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(2))]
    shared = generator.normal(size=(4, 17)) + np.array([[2], [-2], [1], [-1]])
    surgery = PCGrad()
    for task, gradient in enumerate(shared):
        parameters[0].grad = torch.tensor(gradient[:12].reshape(3, 4), dtype=torch.float32)
        parameters[1].grad = torch.tensor(gradient[12:], dtype=torch.float32)
        parameters[2].grad = torch.tensor([100.0, -100.0]) if task == 1 else None  # the task has it to itself
        surgery.store_gradients(parameters)
        assert all(parameter.grad is None for parameter in parameters)
    before = torch.get_rng_state()
    surgery.set_gradients(SEED)
    assert torch.get_rng_state().equal(before) and surgery.gradients == []
    found = torch.cat([parameter.grad.flatten() for parameter in parameters[:2] if parameter.grad is not None])
    expected = algorithm_1(shared, SEED)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(expected - shared.sum(0)).max() > 0.1
    assert parameters[2].grad is not None and parameters[2].grad.tolist() == [100, -100]


def change(folder: Path, tasks: list[str], *options: str, scale: bool = False) -> Any:
    """What an update on one batch of each task adds to the weights, examples of all tasks counting."""
    run = parts(folder, *OPTIONS, *MIXED, "tasks=[same,renamed,overlap]", *options)
    stepper = scaled(run.stepper) if scale else run.stepper
    before = weights(run)
    update = []
    for task in tasks:
        rows = np.array(ROWS[task])
        share = Share(SEED, tuple(range(len(rows))), len(rows))
        update.append(collate(run.train_splits[task], rows, task=task, share=share))
    stepper(update)
    return {name: (value - before[name]).double().numpy() for name, value in weights(run).items()}


@pytest.mark.parametrize("own", [[], ["adversary.mode=freelb", "adversary.step_size=1e-3", "adversary.radius=1e-3"]])
def test_an_update_of_conflicting_tasks(folder: Path, own: list[str]) -> None:
    sizes = {task: len(rows) for task, rows in ROWS.items()}
    alone = {task: change(folder, [task], *own) for task in ROWS}
    shares = {
        task: {name: value * sizes[task] / sum(sizes.values()) for name, value in gradient.items()}
        for task, gradient in alone.items()
    }
    together = {on: change(folder, list(ROWS), *own, *([SURGERY] if on else [])) for on in (False, True)}
    shared = [name for name in together[True] if not name.startswith("heads.overlap")]
    flat = np.stack([np.concatenate([-part[name].ravel() for name in shared]) for part in shares.values()])
    assert (flat @ flat.T)[0, 1] < 0
    found, plain = (-np.concatenate([together[on][name].ravel() for name in shared]) for on in (True, False))
    np.testing.assert_allclose(plain, flat.sum(0), atol=2e-6)
    np.testing.assert_allclose(found, algorithm_1(flat, SEED), atol=1e-5)
    assert np.abs(found - plain).max() > 1e-3
    head = "heads.overlap.linear.weight"
    np.testing.assert_allclose(together[True][head], together[False][head], atol=1e-6)


def test_several_batches_of_a_task_are_one_gradient(folder: Path) -> None:
    plain, cut = (change(folder, ["same", "overlap", "same"], *own) for own in ([], [SURGERY]))
    same, overlap = (change(folder, own, "train.clip_norm=null") for own in (["same", "same"], ["overlap"]))
    flat = np.stack(
        [
            np.concatenate([-share * part[name].ravel() for name in plain if name.startswith("encoder.")])
            for share, part in ((6 / 8, same), (2 / 8, overlap))
        ]
    )
    found = -np.concatenate([cut[name].ravel() for name in cut if name.startswith("encoder.")])
    np.testing.assert_allclose(found, algorithm_1(flat, SEED), atol=1e-5)


def test_scaled_gradients_are_treated_alike(folder: Path) -> None:
    plain, other = (change(folder, list(ROWS), SURGERY, scale=scale) for scale in (False, True))
    for name, value in plain.items():
        np.testing.assert_allclose(other[name], value, atol=2e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["train.mix_tasks=false"], "set accumulate above 1 and mix_tasks=true"),
        (["train.accumulate=1"], "set accumulate above 1 and mix_tasks=true"),
        (["tasks=[same]"], "pcgrad needs several training tasks, and there is one; set it to none"),
        (
            ["adversary.mode=none", "adversary.tasks.same.mode=freeat"],
            "one optimizer step per update, freeat makes several",
        ),
    ],
)
def test_where_it_means_nothing_it_is_refused(folder: Path, options: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        parts(folder, *OPTIONS, *MIXED, SURGERY, *options)
    assert "train" in str(caught.value) and "gradient_surgery" in str(caught.value)


def test_without_its_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    with pytest.raises(UserError, match=r"pip install 'mt-dnn\[pcgrad\]'"):
        PCGrad()
