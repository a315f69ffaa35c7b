"""Collating: every token of every row, in place, and padding only where asked for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_utils.prepared import Prepared
from mt_dnn.batches.batch import Batch, Share
from mt_dnn.batches.collate import collate
from mt_dnn.batches.fields import PerToken, repeats_of
from tests.parts import parts
from tests.workspace import MORE_TASKS, make_workspace


def split_of(
    lengths: list[int],
    labels: Any = None,
    groups: Any = None,
    decisions: Any = None,
    marked: Any = None,
    soft: Any = None,
    soft_offsets: Any = None,
) -> Any:
    """A prepared split in memory, read-only as a memory map is; every token id occurs once."""
    total = sum(lengths)
    tokens, types = np.arange(total, dtype=np.int32), np.arange(total, dtype=np.int32) % 2
    tokens.flags.writeable = types.flags.writeable = False
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    bounds = offsets if groups is None else offsets[groups]
    return SimpleNamespace(
        tokens=tokens,
        token_types=types,
        offsets=bounds,
        labels=labels,
        sequence_offsets=offsets,
        groups=groups,
        decisions=decisions,
        marked=marked,
        text_numbers=None,
        contexts=None,
        words=None,
        soft=soft,
        soft_offsets=soft_offsets,
    )


@given(st.data(), st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_examples_stand_end_to_end(data: st.DataObject, lengths: list[int]) -> None:
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=8))
    split = split_of(lengths)
    batch = collate(split, rows, task="rte")
    assert (batch.task, batch.size, batch.longest) == ("rte", len(rows), max(lengths[row] for row in rows))
    assert batch.lengths.tolist() == [lengths[row] for row in rows]
    for i, row in enumerate(rows):
        here = slice(int(batch.offsets[i]), int(batch.offsets[i + 1]))
        source = np.arange(split.offsets[row], split.offsets[row + 1])
        assert batch.input_ids[here].tolist() == source.tolist()
        assert batch.token_type_ids[here].tolist() == (source % 2).tolist()
        assert batch.position_ids[here].tolist() == list(range(lengths[row]))
        assert set(batch.sequence_ids[here].tolist()) == {i}
    assert len(batch.input_ids) == batch.offsets[-1]


@pytest.mark.parametrize("rows", [[0, 1, 2], [1, 1]])  # ragged, and all of one length
def test_padding_and_back(rows: list[int]) -> None:
    batch = collate(split_of([2, 4, 1]), rows, task="rte")
    states = torch.randn(len(batch.input_ids), 3)
    padded = batch.pad(states)
    mask = batch.mask[:, 0, 0]
    assert padded.shape == (batch.size, 4, 3) and mask.shape == (batch.size, 4)
    assert torch.equal(padded[mask], states) and not padded[~mask].any()
    assert mask.sum(1).tolist() == batch.lengths.tolist()
    assert torch.equal(batch.unpad(padded), states)
    assert batch.is_even == (rows == [1, 1])


def test_types_are_what_embeddings_and_losses_take() -> None:
    batch = collate(split_of([2, 3], np.array([1, 0])), np.array([1, 0]), task="rte")
    whole = (batch.input_ids, batch.token_type_ids, batch.position_ids, batch.offsets, batch.labels)
    assert {tensor.dtype for tensor in whole if tensor is not None} == {torch.int64}
    assert batch.labels is not None and batch.labels.tolist() == [0, 1]
    scores = collate(split_of([2, 3], np.array([0.5, 4.0], np.float32)), [1], task="stsb").labels
    assert scores is not None and scores.dtype == torch.float32 and scores.tolist() == [4.0]
    assert collate(split_of([2, 3]), [0], task="rte").labels is None


def test_soft_labels_stand_as_logits_do() -> None:
    """Rows of two and three choices; rows of words with two classes each; copies end to end."""
    soft, bounds = np.array([0.5, 0.5, 0.2, 0.3, 0.5, 1.0, 0.0], np.float32), np.array([0, 2, 5, 7])
    groups = np.array([0, 2, 5, 7])
    choices = collate(split_of([1] * 7, None, groups, soft=soft, soft_offsets=bounds), [1, 2], task="odd")
    assert choices.soft is not None
    torch.testing.assert_close(choices.soft, torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]))
    assert torch.equal(choices.repeated(2).soft, choices.soft.repeat(2, 1))  # type: ignore[arg-type]
    decisions, soft = np.array([0, 2, 5]), np.arange(10, dtype=np.float32)
    words = split_of([2, 3], None, None, decisions, np.zeros(5, int), soft, np.array([0, 4, 10]))
    for rows, places in (([0, 1], [0, 1, 2, 3, 4]), ([1, 0], [2, 3, 4, 0, 1])):
        found = collate(words, rows, task="tagged").soft
        assert found is not None and found.tolist() == np.arange(10).reshape(5, 2)[places].tolist()


def test_moving_to_a_device_moves_every_tensor() -> None:
    batch = collate(split_of([2, 3], np.array([1, 0])), [0, 1], task="rte")
    assert batch.to("cpu") is batch
    moved = batch.to("meta")
    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 5 and {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.longest == 3 and moved.mask.device.type == "meta"


@pytest.fixture(scope="module")
def train_splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Prepared]:
    """Rows of every task type, those that can have soft labels with them."""
    folder = tmp_path_factory.mktemp("batches")
    make_workspace(folder, train_rows=6, more=list(MORE_TASKS), soft=True)
    return parts(folder, "distillation.weight=0.5").train_splits


def tensors_of(batch: Batch) -> dict[str, torch.Tensor]:
    return {name: value for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}


def test_copies_of_a_batch_are_what_collating_its_rows_so_often_makes(train_splits: dict[str, Prepared]) -> None:
    seen = set[str]()
    for task, split in train_splits.items():
        batch, expected = (collate(split, rows, task=task) for rows in ([4, 1, 3], [4, 1, 3] * 3))
        copies = tensors_of(batch.repeated(3))
        assert copies.keys() == tensors_of(expected).keys()
        for name, value in tensors_of(expected).items():
            assert copies[name].dtype == value.dtype and copies[name].equal(value), f"{task}: {name}"
        seen |= copies.keys()
    assert seen == repeats_of(Batch).keys()  # no field is left out


def test_every_tensor_of_a_batch_is_declared() -> None:
    tensors = {name for name, hint in get_type_hints(Batch).items() if "Tensor" in str(hint)}
    assert repeats_of(Batch).keys() == tensors and tensors < {field.name for field in fields(Batch)}

    @dataclass(frozen=True, eq=False)
    class Forgetful(Batch):
        speakers: torch.Tensor | None = None

    with pytest.raises(TypeError, match=r"Forgetful\.speakers: declare it as PerToken"):
        repeats_of(Forgetful)


@dataclass(frozen=True, eq=False)
class Spoken(Batch):
    """A batch with one more field."""

    speakers: PerToken | None = None


def test_a_new_field_is_repeated_and_moved_with_its_batch() -> None:
    spoken = Spoken(**vars(collate(split_of([2, 3]), [0, 1], task="rte")), speakers=torch.tensor([0, 0, 1, 1, 1]))
    doubled: Any = spoken.repeated(2)
    assert doubled.speakers.tolist() == [0, 0, 1, 1, 1] * 2
    moved: Any = spoken.to("meta")
    assert moved.speakers.device.type == "meta"


def test_a_process_that_has_a_batch_to_itself_counts_all_of_it() -> None:
    batch = collate(split_of([2, 3, 1]), [0, 1, 2], task="rte")
    assert batch.share == Share.undivided(3) == Share(0, (0, 1, 2), 3)
    assert batch.counted == batch.global_size == batch.weight == 3
