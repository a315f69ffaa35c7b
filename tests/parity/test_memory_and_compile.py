"""Activation checkpointing and torch.compile change what a step costs, not what it computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from mt_dnn.batches.collate import collate
from mt_dnn.batches.draws import seed_step
from mt_dnn.training.loop import Position, train
from tests.parts import parts
from tests.workspace import make_workspace

RAPT = ("adversary.mode=rapt", "adversary.max_layer=2")
NO_DROPOUT = ("encoder.dropout=0", "encoder.attention_dropout=0", "heads.dropout=0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memory")
    make_workspace(folder, train_rows=24)
    return folder


def trained(folder: Path, *options: str) -> dict[str, Tensor]:
    """Weights after an epoch."""
    run = parts(folder, "train.epochs=1", "tasks=[same,overlap]", *options)
    for _ in train(run.stepper, run.train_splits, run.plan, device=run.device, start=Position()):
        pass
    return {name: value.detach() for name, value in run.model.state_dict().items()}


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize(
    "options",
    [
        ("adversary.mode=tat", "adversary.reuse_clean_pass=true"),
        ("adversary.mode=freelb",),  # dropout masks repeat from pass to pass, and when a block runs again
        RAPT,
        (*RAPT, "encoder.attention=padded"),
    ],
)
def test_recomputed_activations_give_the_same_weights(folder: Path, options: tuple[str, ...]) -> None:
    plain, recomputed = (trained(folder, *options, f"train.activation_checkpointing={on}") for on in ("false", "true"))
    assert difference(plain, recomputed) == 0


def test_recomputed_activations_are_not_kept(folder: Path) -> None:
    kept = {}
    for on in (False, True):
        options = [f"train.activation_checkpointing={on}".lower(), "tasks=[same]"]
        run = parts(folder, *options)
        storages: dict[int, int] = {}

        def count(value: Tensor, into: dict[int, int] = storages) -> Tensor:
            into[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            return value

        run.model.train()
        weights = {parameter.untyped_storage().data_ptr() for parameter in run.model.parameters()}
        batch = collate(run.train_splits["same"], range(24), task="same")
        with saved_tensors_hooks(count, lambda value: value):
            logits = run.model(batch)
        kept[on] = sum(size for address, size in storages.items() if address not in weights)
        assert logits.isfinite().all()
    assert kept[True] < kept[False] / 3


@pytest.mark.timeout(900)  # a C++ compiler runs; cut off inside, torch would go on compiling in later tests
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch.compile warns about what it imports
@pytest.mark.usefixtures("in_float64")
def test_compiled_blocks_give_the_same_weights(folder: Path) -> None:
    options = ("adversary.mode=tat", "adversary.reuse_clean_pass=true", *NO_DROPOUT)
    compiled = ["train.compile=true", "train.activation_checkpointing=true"]
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert difference(trained(folder, *options), trained(folder, *options, *compiled)) < 1e-10
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_blocks_repeat_dropout_masks(folder: Path) -> None:
    """Equal generators give equal masks, which FreeLB's passes rely on."""
    run = parts(folder, "train.compile=true", "tasks=[same]")
    run.model.train()
    batch = collate(run.train_splits["same"], range(8), task="same")
    state = run.model.upto(0, batch).detach()
    outputs = []
    for _ in range(2):
        seed_step(1, 7)
        outputs.append(run.model.resume(state, 0, batch))
    assert outputs[0].equal(outputs[1])
    assert not run.model.resume(state, 0, batch).equal(outputs[0])
