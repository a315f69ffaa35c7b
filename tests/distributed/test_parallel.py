"""What the wrapper of several ranks sums, and what is summed beside it."""

from __future__ import annotations

from pathlib import Path

import torch

from mt_dnn.batches.collate import collate, share_of_rank
from mt_dnn.distributed.ranks import rank, world_size
from mt_dnn.training.parallel import average_over_ranks
from tests.distributed.workers import run_ranks
from tests.parts import parts
from tests.workspace import make_workspace


def heads_are_left_out(folder: Path) -> None:
    """Heads and pooler are no parameters of the wrapper, which does not search for unused ones."""
    run = parts(folder, "tasks=[same,tagged]", "schedule.warmup_fraction=0")
    wrapped = run.stepper.parallel._wrapped
    assert wrapped is not None and not wrapped.find_unused_parameters
    left_out = wrapped.parameters_to_ignore
    names = [name for name, _ in run.model.named_parameters()]
    assert left_out == {f"model.{name}" for name in names if name.startswith("heads.") or ".pooler." in name}
    for task in ("same", "tagged", "same"):  # each update leaves out what the one before has used
        split = run.train_splits[task]
        share = share_of_rank(split.lengths[:5], rank(), world_size(), 1)
        before = {name: parameter.detach().clone() for name, parameter in run.model.named_parameters()}
        run.stepper([collate(split, range(5), task=task, share=share)])
        changed = {name for name, parameter in run.model.named_parameters() if not parameter.equal(before[name])}
        assert {name.split(".")[1] for name in changed if name.startswith("heads.")} == {task}
        assert any(".layer.1." in name for name in changed)
    weights = torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()])
    both = [torch.empty_like(weights) for _ in range(2)]
    torch.distributed.all_gather(both, weights)
    assert both[0].equal(both[1])


def only_heads_are_trained(folder: Path) -> None:
    """There is nothing to wrap then."""
    run = parts(folder, "tasks=[same]", "optimizer.freeze=['encoder.*']", "schedule.warmup_fraction=0")
    assert run.stepper.parallel._wrapped is None
    split = run.train_splits["same"]
    share = share_of_rank(split.lengths[:5], rank(), world_size(), 1)
    run.stepper([collate(split, range(5), task="same", share=share)])
    weights = torch.cat([parameter.detach().flatten() for parameter in run.model.heads.parameters()])
    both = [torch.empty_like(weights) for _ in range(2)]
    torch.distributed.all_gather(both, weights)
    assert both[0].equal(both[1])


def means_are_over_ranks() -> None:
    gradients = [torch.full((2, 3), float(rank())), torch.full((4,), 10.0 * rank())]
    average_over_ranks(gradients)
    assert gradients[0].eq(0.5).all() and gradients[1].eq(5.0).all()
    average_over_ranks([])


def all_checks(folder: Path) -> None:
    heads_are_left_out(folder)
    only_heads_are_trained(folder)
    means_are_over_ranks()


def test_heads_are_summed_beside_the_wrapper(tmp_path: Path) -> None:
    make_workspace(tmp_path, more=["tagged"])
    run_ranks(2, all_checks, tmp_path)
