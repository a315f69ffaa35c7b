"""Masked language modelling against transformers' own models: logits, loss, gradients, and the head's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM

from data_utils.features import load_tokenizer
from data_utils.prepare import prepare
from data_utils.task_def import load_task_defs
from mt_dnn.batches.batch import Batch, Share
from mt_dnn.batches.collate import collate
from mt_dnn.runs.build import build_model, build_tasks
from mt_dnn.runs.config_file import load_config
from mt_dnn.tasks.losses import cross_entropy
from tests.tiny import FAMILIES, SHAPE, tiny_encoder, tiny_tokenizer
from tests.wild import add_tokens
from tests.workspace import make_workspace

# transformers computes the softmax of attention in float32 all the same, so the tolerances are those of its rounding.
pytestmark = pytest.mark.usefixtures("in_float64")

FITTING = ("bert", "roberta", "xlm-roberta", "modernbert")
POOLER = {"modernbert": ["encoder.pooler=family"]}  # there its head has the layers of the family


def pretrained(folder: Path, family: str) -> Any:
    """A masked language model in a folder, whose head is as random as its encoder."""
    vocabulary = tiny_tokenizer(folder)
    torch.manual_seed(3)
    settings = AutoConfig.for_model(family, **{"vocab_size": vocabulary, **SHAPE, **FAMILIES[family]})
    model = AutoModelForMaskedLM.from_config(settings)
    for parameter in model.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize("family", FITTING)
def test_logits_loss_and_gradients_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    make_workspace(tmp_path, more=["guessed"])
    reference = pretrained(tmp_path / "lm", family)
    options = [f"encoder.name={tmp_path / 'lm'}", "tasks=[guessed]", *POOLER.get(family, [])]
    config = load_config(tmp_path / "run.yml", options)
    tokenizer = load_tokenizer(str(tmp_path / "lm"))
    model = build_model(config, build_tasks(config), tokenizer).eval()
    task = load_task_defs(tmp_path / "tasks.yml")["guessed"]
    split = prepare(
        task, "dev", data_dir=tmp_path / "data", cache_dir=tmp_path / "c", tokenizer=tokenizer, max_length=32
    )
    batch = collate(split, range(6), task="guessed")
    assert batch.labels is not None and batch.marked is not None and batch.decisions is not None
    logits = model(batch)
    loss = cross_entropy(logits, batch.labels)
    loss.backward()
    theirs, terms = list[torch.Tensor](), list[torch.Tensor]()
    for row, ids in enumerate(batch.input_ids.split(batch.lengths.tolist())):
        own = slice(int(batch.decisions[row]), int(batch.decisions[row + 1]))
        places = batch.marked[own] - batch.offsets[row]
        labels = torch.full_like(ids, -100)
        labels[places] = batch.labels[own]
        output = reference(input_ids=ids[None], labels=labels[None])
        theirs.append(output.logits[0, places])
        terms.append(output.loss * len(places))
    expected = torch.stack(terms).sum() / len(batch.labels)
    expected.backward()
    torch.testing.assert_close(logits, torch.cat(theirs), atol=1e-5, rtol=0)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)
    words = model.encoder.model.get_input_embeddings().weight.grad
    torch.testing.assert_close(words, reference.get_input_embeddings().weight.grad, atol=1e-5, rtol=0)
    assert words.abs().max() > 1e-3
    bias = model.heads["guessed"].bias.grad
    torch.testing.assert_close(bias, reference.get_output_embeddings().bias.grad, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FITTING)
def test_added_tokens_have_rows_and_biases_of_their_own(family: str, tmp_path: Path) -> None:
    """Against transformers' own resizing of the whole masked language model, with the same new rows."""
    make_workspace(tmp_path, more=["guessed"])
    reference = pretrained(tmp_path / "lm", family)
    add_tokens(tmp_path / "lm", "[E]", "[/E]")
    tokenizer = load_tokenizer(str(tmp_path / "lm"))
    words, bias = reference.get_input_embeddings().weight.mean(0), reference.get_output_embeddings().bias.mean()
    reference.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    reference.get_input_embeddings().weight.data[-2:] = words
    reference.get_output_embeddings().bias.data[-2:] = bias
    options = [f"encoder.name={tmp_path / 'lm'}", "tasks=[guessed]", *POOLER.get(family, [])]
    config = load_config(tmp_path / "run.yml", options)
    model = build_model(config, build_tasks(config), tokenizer).eval()
    ids = torch.tensor(tokenizer("the [E] cat [/E] sees")["input_ids"])
    every = torch.arange(len(ids))
    batch = Batch(
        "guessed", ids, 0 * ids, every, torch.tensor([0, len(ids)]), len(ids), Share.undivided(1), marked=every
    )
    expected = reference(input_ids=ids[None]).logits[0]
    torch.testing.assert_close(model(batch), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["electra", "mpnet", "modernbert"])
def test_other_families_start_with_a_fresh_head(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_workspace(tmp_path, more=["guessed"])
    options = [f"encoder.name={tiny_encoder(tmp_path / 'other', family)}", "tasks=[guessed]"]
    config = load_config(tmp_path / "run.yml", options)
    build_model(config, build_tasks(config), load_tokenizer(str(tmp_path / "other")))
    assert "guessed: the encoder has no pretrained head of a masked language model" in capsys.readouterr().out
