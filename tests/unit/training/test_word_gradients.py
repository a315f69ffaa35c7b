"""Gradients of word embeddings as rows: the same clipping, the same updates, no dense gradient in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mt_dnn.batches.collate import collate, local_batch
from mt_dnn.batches.plan import MicroBatch
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.start import Parts, build_stepper, start
from mt_dnn.training.optimizers import OPTIMIZERS
from mt_dnn.training.word_gradients import DenseGradients, clip_gradients
from tests.parts import parts
from tests.tiny_model import RUN_ON_CPU, skip_unless_installed
from tests.workspace import make_workspace

MODES = ("none", "vat", "tat", "freelb", "rapt,adversary.max_layer=2", "pgd", "freeat", "yopo", "rdrop", "r3f", "r4f")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    make_workspace(folder, train_rows=24, more=["guessed"])
    return folder


def updated(folder: Path, *options: str) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Gradient norms and weights of three updates in float64, each with other rows, and two batches."""
    config = load_config(folder / "run.yml", ["tasks=[same,overlap]", *options])
    run = start(config)
    run.model.double().train()
    trained = run.tasks.trained
    stepper = build_stepper(config, run.model, trained, run.train_splits, total_steps=9, device=run.device)
    norms = []
    for step in range(3):
        rows = np.arange(8 * step, 8 * step + 8)
        batches = [local_batch(run.train_splits[task], MicroBatch(task, rows), step) for task in trained]
        norms.append(stepper(batches, step)[1])
    assert all(parameter.grad is None for parameter in run.model.parameters())
    return norms, run.model.state_dict()


def agree(one: Any, other: Any) -> None:
    torch.testing.assert_close(one[0], other[0], rtol=1e-12, atol=0)
    for name, weight in one[1].items():
        torch.testing.assert_close(weight, other[1][name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_updates_are_the_same_in_every_mode(mode: str, folder: Path) -> None:
    options = (*f"adversary.mode={mode}".split(","), "optimizer.lookahead.steps=2", "train.clip_norm=0.1")
    paths = (f"train.fast_paths=[{names}]" for names in ("dropout,last_block", "dropout,last_block,word_gradients"))
    agree(*(updated(folder, *options, path) for path in paths))


@pytest.mark.parametrize("optimizer", RUN_ON_CPU)
def test_updates_are_the_same_with_every_optimizer(optimizer: str, folder: Path) -> None:
    skip_unless_installed(optimizer)
    assert optimizer in OPTIMIZERS
    agree(
        *(
            updated(folder, f"optimizer.name={optimizer}", f"train.fast_paths={path}")
            for path in ("[]", "[word_gradients]")
        )
    )


@pytest.mark.parametrize(
    "options", [("train.clip_norm=null",), ("optimizer.freeze=[embeddings]",), ("tasks=[same,guessed]",)]
)
def test_other_runs(options: tuple[str, ...], folder: Path) -> None:
    agree(*(updated(folder, *options, f"train.fast_paths={path}") for path in ("[]", "[word_gradients]")))


def table_of(run: Parts) -> nn.Embedding:
    return run.model.encoder.model.get_input_embeddings()


@pytest.mark.parametrize(
    ("options", "sparse"),
    [
        ((), True),
        (("train.fast_paths=[]",), False),
        (("train.accumulate=2", "train.mix_tasks=true", "train.gradient_surgery=pcgrad"), False),
    ],
)
def test_who_gets_rows(options: tuple[str, ...], sparse: bool, folder: Path) -> None:
    if "train.gradient_surgery=pcgrad" in options:
        pytest.importorskip("torchjd", reason="the extra pcgrad is not installed")
    run, found = parts(folder, "tasks=[same,overlap]", *options), []
    weight = table_of(run).weight
    weight.register_post_accumulate_grad_hook(lambda parameter: found.append(parameter.grad.is_sparse))
    run.stepper([collate(run.train_splits[task], range(8), task=task) for task in ("same", "overlap")])
    assert found == [sparse] * 2 and not table_of(run).sparse and weight.grad is None


@pytest.mark.parametrize("limit", [0.5, 1e4])  # far below and far above the norm
def test_clipping_is_torchs_and_buffers_are_clean_again(limit: float) -> None:
    torch.manual_seed(0)
    table, layer = nn.Embedding(50, 4, sparse=True).double(), nn.Linear(4, 3).double()
    buffers = DenseGradients()
    parameters: list[Any] = [table.weight, *layer.parameters()]
    addresses = set()
    for tokens in ([3, 3, 7], [9, 7, 1, 1]):
        norms, gradients = [], []
        for sparse in (False, True):
            table.sparse = sparse
            for parameter in parameters:
                parameter.grad = None
            for _ in range(2):  # two passes
                layer(table(torch.tensor(tokens))).square().sum().backward()
            if sparse:
                norms.append(clip_gradients(parameters, limit))
                assert table.weight.grad is not None and table.weight.grad.is_sparse
                with buffers.of(parameters):
                    gradients.append([parameter.grad.clone() for parameter in parameters if parameter.grad is not None])
                    addresses.add(table.weight.grad.data_ptr())
                assert not table.weight.grad.any()
            else:
                norms.append(nn.utils.clip_grad_norm_(parameters, limit))
                gradients.append([parameter.grad for parameter in parameters if parameter.grad is not None])
        torch.testing.assert_close(norms[0], norms[1], rtol=1e-12, atol=0)
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-12, atol=1e-15)
    assert len(addresses) == 1


def test_a_norm_that_is_not_a_number_reaches_all_gradients() -> None:
    """As in torch: one weight alone must not be wrong in silence."""
    table, layer = nn.Embedding(5, 2, sparse=True), nn.Linear(2, 1)
    layer(table(torch.tensor([1]))).sum().backward()
    assert layer.bias.grad is not None and table.weight.grad is not None
    layer.bias.grad.fill_(torch.nan)
    parameters: list[Any] = [table.weight, *layer.parameters()]
    assert clip_gradients(parameters, 1.0).isnan()
    assert all(parameter.grad.isnan().any() for parameter in parameters if parameter.grad is not None)


def test_a_buffer_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new dense gradient in every update would cost a pass over the table and its page faults."""
    made: list[Tensor] = []
    zeros_like = torch.zeros_like

    def counted(tensor: Tensor) -> Tensor:
        made.append(tensor)
        return zeros_like(tensor)

    monkeypatch.setattr(torch, "zeros_like", counted)
    table, buffers = nn.Embedding(50, 4, sparse=True), DenseGradients()
    parameters: list[Any] = [table.weight]
    for _ in range(3):
        table(torch.tensor([3, 7])).sum().backward()
        clip_gradients(parameters, None)
        with buffers.of(parameters):
            pass
        table.weight.grad = None
    assert len(made) == 1
