"""The peer is fair: one Trainer, the same weights and batches, alternating turns, one device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from data_utils.errors import UserError
from mt_dnn.batches.collate import collate
from mt_dnn.bench import peer as peer_module
from mt_dnn.bench.peer import HFTrainer, check_peer
from mt_dnn.bench.synthetic import run_config
from mt_dnn.bench.throughput import in_turn
from mt_dnn.bench.workload import BenchRows, Workload, build_rows, build_workload
from mt_dnn.runs.config_file import load_config

pytest.importorskip("accelerate", reason="the extra peer is not installed")

TINY = [f"encoder.config.{name}" for name in ("num_hidden_layers=2", "hidden_size=24", "intermediate_size=40")]
TINY += ["encoder.dropout=0", "encoder.attention_dropout=0", "heads.dropout=0", "train.batch_size=4", "device=cpu"]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Workload]:
    monkeypatch.setattr("mt_dnn.bench.synthetic.ROWS", 32)
    with run_config(None, TINY, lengths="cola") as config:
        yield build_workload(config, "bench")


def test_random_weights_are_the_same_on_both_sides(work: Workload) -> None:
    trainer, rows = HFTrainer(work, work.model.encoder.model), work.batches[0]
    head = work.model.heads[work.task.name].linear
    trainer.model.classifier.load_state_dict(head.state_dict())
    batch = collate(work.split, rows, task=work.task.name)
    padded = transformers.DataCollatorWithPadding(work.tokenizer)([trainer._features(int(row)) for row in rows])
    with torch.no_grad():
        theirs = trainer.model.eval()(**padded).logits
        assert torch.allclose(work.model(batch), theirs, atol=1e-5)


def test_a_pretrained_encoder_is_loaded_by_both(workspace: Path) -> None:
    config = load_config(workspace / "run.yml", ["tasks=[same]", "device=cpu", "encoder.blocks=[1]"])
    ours = build_workload(config, "bench")
    theirs = HFTrainer(ours, ours.model.encoder.model).model.base_model.state_dict()
    for name, weights in ours.model.encoder.model.state_dict().items():
        if "pooler" not in name:
            assert torch.equal(weights, theirs[name]), name


def test_sides_take_turns_and_change_the_order(work: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    spent = Workload.spent
    train_step = transformers.Trainer.training_step

    def our_round(*parts: Any) -> Any:
        turns.append("ours")
        return spent(*parts)

    def step(*parts: Any, **options: Any) -> Any:
        turns.append("peer")
        return train_step(*parts, **options)

    monkeypatch.setattr(Workload, "spent", our_round)
    monkeypatch.setattr(transformers.Trainer, "training_step", step)
    ours, theirs = in_turn(work, work.stepper(work.config.adversary), HFTrainer(work), work.chunk(1), 3)
    assert len(ours) == len(theirs) == 3  # two rounds more have warmed up
    assert turns == ["ours", "peer", "peer", "ours", "ours", "peer", "peer", "ours", "ours", "peer"]
    assert all(times.wall > 0 and times.cpu > 0 for times in (*ours, *theirs))


def test_trainer_reads_the_batches_of_the_chunk_in_every_round(work: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    forward = transformers.BertForSequenceClassification.forward

    def note(self: Any, input_ids: torch.Tensor, **rest: Any) -> Any:
        seen.append(int(input_ids.sum()))
        return forward(self, input_ids, **rest)

    monkeypatch.setattr(transformers.BertForSequenceClassification, "forward", note)
    chunk = work.chunk(2)
    HFTrainer(work).train(chunk, 3, lambda number: None)
    sums = [int(collate(work.split, rows, task=work.task.name).input_ids.sum()) for rows in chunk]
    assert seen == sums * 3  # padding has the id 0


def test_time_between_rounds_does_not_count(work: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("mt_dnn.bench.workload.time.perf_counter", lambda: clock[0])

    def between(number: int) -> None:
        clock[0] += 1000

    def step(trainer: Any, model: Any, *rest: Any) -> torch.Tensor:
        clock[0] += 1
        return torch.zeros(())

    monkeypatch.setattr(transformers.Trainer, "training_step", step)
    spent = HFTrainer(work).train(work.chunk(2), 3, between)
    assert [times.wall for times in spent] == [2, 2, 2] and clock[0] == 4006


def test_trainer_stays_on_one_gpu(work: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    several = property(lambda self: 1 if self._n_gpu == 1 else 4)
    monkeypatch.setattr(transformers.TrainingArguments, "n_gpu", several)
    assert HFTrainer(work)._arguments("somewhere", 1).n_gpu == 1


@pytest.mark.parametrize(
    ("overrides", "found", "message"),
    [
        (["train.precision=fp16"], True, "Trainer has no fp16 on a CPU; set train.precision=bf16 or fp32"),
        ([], False, "Trainer needs accelerate; pip install 'mt-dnn[peer]'"),
    ],
)
def test_what_trainer_cannot_do_is_refused(
    overrides: list[str], found: bool, message: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: BenchRows = build_rows(load_config(workspace / "run.yml", ["tasks=[same]", "device=cpu", *overrides]), "b")
    monkeypatch.setattr(peer_module, "find_spec", lambda name: object() if found else None)
    with pytest.raises(UserError) as error:
        check_peer(rows, "bench throughput")
    assert str(error.value) == f"bench throughput: {message}"


def test_a_step_that_fails_ends_the_count(work: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(trainer: Any, *_: Any) -> torch.Tensor:
        if trainer.state.global_step == 1:  # the step that is counted
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.zeros(())

    monkeypatch.setattr(transformers.Trainer, "training_step", step)
    trainer = HFTrainer(work)
    with pytest.raises(torch.OutOfMemoryError):
        trainer.train(work.chunk(1), 3, lambda number: None)
    counted = trainer.counted.operations
    torch.ones(2) + 1
    assert trainer.counted.operations == counted


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_batches_are_pinned_for_a_gpu(device: str, work: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    class Made(Exception):
        pass

    def loader(*_: Any, pin_memory: bool, **options: Any) -> None:
        raise Made(pin_memory)

    monkeypatch.setattr(torch.utils.data, "DataLoader", loader)
    rows = replace(work, device=torch.device(device))
    with pytest.raises(Made, match=str(device == "cuda")):
        HFTrainer(rows).train(work.chunk(1), 1, lambda number: None)
