"""Run folders that were never trained, with weights that hide nothing, and what plain transformers makes of exports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data_utils.prepared import Prepared
from mt_dnn.batches.collate import collate
from mt_dnn.inference.trained import TrainedModel
from mt_dnn.runs.base import write_base
from mt_dnn.runs.checkpoint import save_checkpoint
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.folder import write_inputs
from mt_dnn.runs.progress import Progress
from mt_dnn.runs.start import Parts
from tests.parts import parts
from tests.tiny import tiny_encoder
from tests.workspace import COLUMNS, make_workspace, rows_of

EXPORTED = ("same", "negated", "overlap", "odd", "tagged", "marks", "guessed", "gap", "found")
MORE = ("odd", "tagged", "marks", "guessed", "gap", "found")


def run_of(folder: Path, family: str, *options: str, more: Sequence[str] = MORE, **shape: Any) -> Path:
    """A run folder of a family with a checkpoint, made without an update. No weight is what it starts as."""
    make_workspace(folder, train_rows=8, more=more)
    options = (f"encoder.name={tiny_encoder(folder / family, family, **shape)}", *options)
    save(folder, parts(folder, *options), *options)
    return folder / "run"


def save(folder: Path, run: Parts, *options: str) -> None:
    """Writes a checkpoint of the parts of a run after they were moved."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in run.model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    config = load_config(folder / "run.yml", options)
    config.output.mkdir()
    write_inputs(config.output, config, run.tasks.evaluated)
    write_base(config.output, run.model.encoder)
    files = (config.output / "config.yml", config.output / "task_defs.yml")
    data = {f"{task}/{name}": split.manifest["hash"] for (task, name), split in run.splits.items()}
    state: dict[str, Any] = {"progress": {**Progress().state_dict(), "finished": True, "data": data}}
    save_checkpoint(
        config.output, 1, model=run.model, tokenizer=run.tokenizer, trainer_tensors={}, state=state, files=files
    )


def rows_for(task: str, count: int = 64, seed: int = 5) -> list[dict[str, str]]:
    """Unlabelled rows as dictionaries by column."""
    columns = COLUMNS.get(task, ("premise", "hypothesis"))
    return [dict(zip(columns, row[2:], strict=False)) for row in rows_of(task, count, seed)]


def padded(split: Prepared, rows: Sequence[int], task: str) -> tuple[Any, dict[str, Tensor]]:
    """A batch, and the same as transformers takes it: ids, token types and mask, (S, L)."""
    batch = collate(split, rows, task=task)
    inputs = {"input_ids": batch.pad(batch.input_ids), "token_type_ids": batch.pad(batch.token_type_ids)}
    return batch, {**inputs, "attention_mask": batch.mask[:, 0, 0].long()}


def texts_for(task: str, row: dict[str, str]) -> list[tuple[str, ...]]:
    """The texts of each sequence of a row, as a user hands them to a tokenizer."""
    if task == "odd":
        return [(row["premise"], row[f"choice{n}"]) for n in range(1, 5) if row.get(f"choice{n}")]
    if task == "gap":
        choices = [row[f"choice{n}"] for n in range(1, 4) if row.get(f"choice{n}")]
        return [(row["premise"], row["query"].replace("@placeholder", choice)) for choice in choices]
    return [tuple(row.values())]


def assert_same_ids(tokenizer: PreTrainedTokenizerBase, split: Prepared, task: str, rows: list[dict[str, str]]) -> None:
    """A plain call of the tokenizer gives the ids and token types that the run has trained on."""
    sequences = [texts for row in rows for texts in texts_for(task, row)]
    bounds = split.sequence_offsets
    assert len(sequences) == len(bounds) - 1
    for number, texts in enumerate(sequences):
        encoded, here = tokenizer(*texts, truncation=True), slice(bounds[number], bounds[number + 1])
        assert encoded["input_ids"] == split.tokens[here].tolist()
        if "token_type_ids" in tokenizer.model_input_names:
            assert encoded["token_type_ids"] == split.token_types[here].tolist()
        else:
            assert "token_type_ids" not in encoded


def assert_same_logits(
    model: TrainedModel, exported: Any, tokenizer: PreTrainedTokenizerBase, task: str, tolerance: float
) -> None:
    """64 rows of different lengths, in one padded batch; rows with choices in one for each number of choices."""
    rows = rows_for(task)
    definition, split = model._encode(task, rows)
    assert split is not None and len(split) == 64 and len(set(split.lengths.tolist())) > 3
    assert_same_ids(tokenizer, split, task, rows)
    ours = model.logits(task, rows)
    kind = definition.task_type
    found, expected = list[Tensor](), list[Tensor]()
    choices = np.ones(64, int) if split.groups is None else np.diff(split.groups)
    for count in np.unique(choices):
        group = np.flatnonzero(choices == count).tolist()
        batch, inputs = padded(split, group, task)
        inputs = {name: value for name, value in inputs.items() if name in tokenizer.model_input_names}
        if split.groups is not None:
            inputs = {name: value.unflatten(0, (-1, int(count))) for name, value in inputs.items()}
        if (offset := model.model.encoder.position_offset) and kind == "masked_lm":
            # A mask may show any token, also that of padding, which transformers would not count as a position.
            inputs["position_ids"] = batch.pad(batch.position_ids) + offset
        with torch.inference_mode():
            theirs = exported(**inputs)
        if kind == "span":
            for row in group:
                length = int(split.lengths[row])
                found += [theirs.start_logits[row, :length], theirs.end_logits[row, :length]]
        elif batch.marked is not None:
            found.append(batch.unpad(theirs.logits)[batch.marked])
        else:
            found.append(theirs.logits)
        for row in group:
            values = torch.from_numpy(ours[row])
            expected.append(values[:, 1] if kind == "multi_label" else values)
    close(torch.cat([values.flatten() for values in found]), torch.cat([v.flatten() for v in expected]), tolerance)


def close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    assert found.shape == expected.shape and expected.std() > 1e-3
    torch.testing.assert_close(found.double(), expected.double(), atol=tolerance, rtol=tolerance)
