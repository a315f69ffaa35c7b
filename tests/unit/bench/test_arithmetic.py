"""The arithmetic of a step is what torch's own counter counts, and operations are counted in all parts of a step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mt_dnn.batches.collate import collate
from mt_dnn.bench.arithmetic import full_blocks, matrix_rate, step_flops, weights_of
from mt_dnn.bench.counts import Counted
from mt_dnn.bench.synthetic import run_config
from mt_dnn.bench.throughput import count_step
from mt_dnn.bench.workload import Workload, build_workload

TINY = [f"encoder.config.{name}" for name in ("num_hidden_layers=3", "hidden_size=24", "intermediate_size=40")]
DRAWN = ["train.batch_size=6", "device=cpu"]


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt_dnn.bench.synthetic.ROWS", 48)


def workloads(lengths: str, *overrides: str) -> Iterator[Workload]:
    with run_config(None, [*TINY, *DRAWN, *overrides], lengths=lengths) as config:
        yield build_workload(config, "bench")


@pytest.mark.parametrize(
    ("lengths", "overrides"),
    [
        ("cola", ()),
        ("cola", ("encoder.pooler=cls",)),
        ("cola", ("encoder.pooler=mean",)),
        ("wnut17", ()),
    ],
)
def test_flops_are_those_that_torch_counts(lengths: str, overrides: tuple[str, ...]) -> None:
    for work in workloads(lengths, *overrides):
        rows = np.flatnonzero(work.split.lengths == np.median(work.split.lengths).astype(int))[:3]
        assert len(rows)  # all of one length: a last block for first tokens is padded
        batch = collate(work.split, rows, task=work.task.name)
        with FlopCounterMode(display=False) as counter:
            work.stepper(work.config.adversary)([batch])
        counted = counter.get_total_flops()
        if work.model.heads[work.task.name].reads_tokens:  # a head of words reads them only, not the special tokens
            head = 6 * weights_of(work.model.heads) * 2 * len(rows)
            assert step_flops(work, rows) - head == pytest.approx(counted, rel=1e-9)
        else:
            assert step_flops(work, rows) == counted


def test_flops_leave_out_padding_and_what_no_head_reads() -> None:
    for work in workloads("rte"):
        rows = work.batches[0]
        with_everything = step_flops(work, rows)
        work.model.encoder.shortens_last_block = False  # what the result needs does not depend on how it is computed
        assert step_flops(work, rows) == with_everything
        assert with_everything > step_flops(work, rows[1:]) > 0


@pytest.mark.parametrize(("pooler", "full"), [("mean", True), ("cls", False)])
def test_a_last_block_of_first_tokens_is_a_part_of_a_block(pooler: str, full: bool) -> None:
    for work in workloads("cola", f"encoder.pooler={pooler}"):
        blocks = full_blocks(work, work.batches[0])
        lengths = work.split.lengths[work.batches[0]]
        tokens, hidden, inner = int(lengths.sum()), 24, 40
        block = tokens * (4 * hidden**2 + 2 * hidden * inner) + 2 * hidden * int((lengths**2).sum())
        keys_and_values = tokens * (2 * hidden**2 + 2 * hidden)
        last = keys_and_values + len(lengths) * (2 * hidden**2 + 2 * hidden * inner)
        assert blocks == pytest.approx(3 if full else 2 + last / block)


def test_the_rate_is_that_of_one_blocks_products() -> None:
    for work in workloads("cola"):
        assert all(0 < rate < 1e15 for rate in matrix_rate(work, 64))


def test_operations_are_counted_in_both_passes_and_the_optimizer() -> None:
    layer = torch.nn.Linear(4, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, foreach=False)
    with Counted() as counted:
        layer(torch.ones(2, 4)).sum().backward()
        optimizer.step()
    assert counted.by_name["addmm"] == 1 and counted.by_name["mm"] == 1  # the input needs no gradient
    assert counted.by_name["add_"] == 2 and "t" not in counted.by_name
    assert counted.figures["operations"] == sum(counted.by_name.values()) and counted.waits == counted.copies == 0


@pytest.mark.parametrize(
    "reads",
    [
        lambda values: values.sum().item(),
        lambda values: values[values > 1],
        lambda values: values.nonzero(),
        lambda values: bool((values > 0).any()),
        lambda values: torch.equal(values, values + 0),
    ],
)
def test_what_the_host_waits_for_is_counted(reads) -> None:
    values = torch.arange(4.0)
    with Counted() as counted:
        reads(values)
    assert counted.waits == 1


def test_copies_between_devices_are_counted() -> None:
    with Counted() as counted:
        torch.ones(3).to("meta")
    assert counted.copies == 1 and counted.waits == 0


def test_a_step_is_counted_once_for_all() -> None:
    for work in workloads("cola"):
        stepper = work.stepper(work.config.adversary)
        count_step(work, stepper, work.batches[0])  # the optimizer makes its state in the first step
        first, second = (count_step(work, stepper, work.batches[0]) for _ in range(2))
        assert first == second and first["operations"] > 100
