"""Encoder folders as they are found on the hub train, resume from the best checkpoint and predict."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerBase

import mt_dnn
from data_utils.errors import UserError
from data_utils.features import load_tokenizer, save_tokenizer
from data_utils.prepare import fingerprint, prepare
from data_utils.task_def import TaskDef
from data_utils.task_types import TASK_TYPES
from mt_dnn.runs.checkpoints import last_checkpoint
from tests.golden.runner import CommandError, run_command
from tests.tiny import FAMILIES, tiny_encoder
from tests.wild import (
    add_tokens,
    as_bin,
    old_name,
    on_the_hub,
    python_tokenizer,
    split_in_two,
    weights,
    wild_encoder,
    word_rows,
    write_weights,
)
from tests.workspace import MORE_TASKS, make_workspace, rows_of, write_task

# Scores stay as they are, so the first checkpoint stays the best, and the last one is another.
OPTIONS = ["optimizer.lr=1e-12", "train.max_steps=3", "evaluation.every_steps=1", 'tasks=["negated"]']

MARKERS = ["[E]", "[/E]"]

PYTHON_TOKENIZERS = ["PhobertTokenizer", "BertweetTokenizer"]


def train(workspace: Path, encoder: Path) -> dict[str, Any]:
    """Trains, resumes from the best checkpoint, and returns the summary of the run."""
    run, command = workspace / "run", ["train", str(workspace / "run.yml"), f"encoder.name={encoder}", *OPTIONS]
    run_command(*command)
    first, last = json.loads((run / "summary.json").read_text()), last_checkpoint(run)
    assert first["selected_step"] == 1 and last is not None and last.name == "step-00000003"
    shutil.rmtree(last)
    assert "after update 1 of 3" in run_command(*command)
    again = json.loads((run / "summary.json").read_text())
    assert again == first and last.exists()
    return again


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    make_workspace(tmp_path, train_rows=16)
    return tmp_path


def assert_predicts(run: Path) -> None:
    (prediction,) = mt_dnn.load(run).predict("negated", ["the cat sees not"])
    assert prediction["prediction"] in ("yes", "no")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_as_the_hub_holds_it(family: str, workspace: Path) -> None:
    """Old names of weights, prefixes of task models, several or pickled files, and tokens added to the tokenizer.

    transformers converts the names when it loads them; a checkpoint holds the names of the model itself. The rows for
    added tokens begin as the mean of the others. Here they hardly move.
    """
    folder = wild_encoder(workspace / "wild", family)
    before = word_rows(folder)
    if family in ("bert", "mpnet", "xlm-roberta"):
        split_in_two(folder)
    if family in ("roberta", "xlm-roberta", "electra", "modernbert"):
        as_bin(folder)
    add_tokens(folder, *MARKERS)
    mark_cats(workspace / "data")
    train(workspace, folder)
    saved = last_checkpoint(workspace / "run")
    assert saved is not None and not any(".gamma" in name or ".beta" in name for name in weights(saved / "encoder"))
    expected = torch.cat([before, before.mean(dim=0).expand(len(MARKERS), -1)])
    torch.testing.assert_close(word_rows(saved / "encoder"), expected, atol=1e-6, rtol=0)
    assert_predicts(workspace / "run")


def mark_cats(data: Path) -> None:
    """Puts markers around a word of the rows."""
    for file in data.glob("negated_*.tsv"):
        file.write_text(file.read_text().replace("cat", "[E] cat [/E]"))


def test_added_tokens_change_nothing_if_the_encoder_has_rows_for_them(workspace: Path) -> None:
    """Some encoders have more rows than their tokenizer has tokens."""
    folder = tiny_encoder(workspace / "wild", vocab_size=100)
    add_tokens(folder, *MARKERS)
    train(workspace, folder)
    saved = last_checkpoint(workspace / "run")
    assert saved is not None
    torch.testing.assert_close(word_rows(saved / "encoder"), word_rows(folder), atol=1e-6, rtol=0)


def test_new_rows_are_said_once(workspace: Path) -> None:
    folder = tiny_encoder(workspace / "wild")
    add_tokens(folder, *MARKERS)
    said = "encoder: tokens added to the tokenizer: [E], [/E]; each starts as the mean of all words\n"
    command = ["train", str(workspace / "run.yml"), f"encoder.name={folder}", *OPTIONS]
    assert said in run_command(*command) and said not in run_command(*command)


def test_a_best_checkpoint_that_an_older_version_saved_under_old_names_is_read(workspace: Path) -> None:
    folder = wild_encoder(workspace / "wild")
    train(workspace, folder)
    saved = workspace / "run" / "best" / "encoder"
    write_weights(saved, {old_name(name): value for name, value in weights(saved).items()})
    shutil.rmtree(workspace / "run" / "checkpoints" / "step-00000003")
    run_command("train", str(workspace / "run.yml"), f"encoder.name={folder}", *OPTIONS)
    assert_predicts(workspace / "run")


@pytest.mark.parametrize("kind", PYTHON_TOKENIZERS)
def test_tokenizers_that_are_written_in_python(kind: str, workspace: Path) -> None:
    """The run resumes, and finds its prepared rows again if the encoder's folder has moved."""
    folder = wild_encoder(workspace / "wild", "roberta")
    python_tokenizer(folder, kind)
    add_tokens(folder, *MARKERS)
    train(workspace, folder)
    moved = folder.rename(workspace / "moved")
    run_command("train", str(workspace / "run.yml"), f"encoder.name={moved}", f"output={workspace / 'other'}", *OPTIONS)
    kept = [path.name for path in (workspace / "data" / "prepared").iterdir() if path.name.startswith("negated_train")]
    assert len(kept) == 1
    assert_predicts(workspace / "run")
    with pytest.raises(UserError, match=f"{kind} is written in Python.*tokenizer.json"):
        encode_found(load_tokenizer(str(moved)), workspace)


@pytest.mark.parametrize("kind", PYTHON_TOKENIZERS)
def test_a_python_tokenizer_is_saved_as_it_was_though_its_folder_is_gone(kind: str, workspace: Path) -> None:
    """A resumed run removes the checkpoint that its tokenizer came from."""
    folder = wild_encoder(workspace / "wild", "roberta")
    python_tokenizer(folder, kind)
    first = load_tokenizer(str(folder))
    shutil.rmtree(folder)
    save_tokenizer(first, workspace / "saved")
    again = load_tokenizer(str(workspace / "saved"))
    assert first.tokenize("the cat") == again.tokenize("the cat") == ["the", "cat"]
    assert fingerprint(again) == fingerprint(first)


def encode_found(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Prepares a question and its context."""
    write_task(folder, "found", "dev", rows_of("found", 2, 1))
    task = TaskDef(name="found", task_type="span", data_format="question_context", **TASK_TYPES["span"].defaults)
    prepare(task, "dev", data_dir=folder, cache_dir=folder / "cache", tokenizer=tokenizer, max_length=32)


@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
def test_weights_that_are_only_pickled_are_read_without_running_code(family: str, workspace: Path) -> None:
    """One file, or two and an index."""
    folder = wild_encoder(workspace / "wild", family)
    if family == "bert":
        split_in_two(folder)
    as_bin(folder)
    train(workspace, folder)
    command = ["train", str(workspace / "run.yml"), f"encoder.name={folder}", *OPTIONS]
    assert "only pickled .bin weights" in run_command(*command, f"output={workspace / 'again'}")
    assert_predicts(workspace / "run")


@pytest.mark.parametrize("split", [False, True], ids=["one file", "index"])
def test_pickled_weights_from_the_hub(split: bool, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's local cache is the source, with and without the language model's head."""
    folder = wild_encoder(workspace / "wild")
    expected = weights(folder)["cls.predictions.transform.dense.weight"]
    if split:
        split_in_two(folder)
    as_bin(folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(workspace / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    name = on_the_hub(folder, workspace / "hub", "someone/wild")
    write_task(workspace / "data", "guessed", "train", rows_of("guessed", 16, 1))
    tasks = yaml.safe_load((workspace / "tasks.yml").read_text())
    (workspace / "tasks.yml").write_text(yaml.safe_dump({**tasks, "guessed": MORE_TASKS["guessed"]}))
    options = [f"encoder.name={name}", *OPTIONS[:-1], "tasks=[negated,guessed]"]
    said = run_command("train", str(workspace / "run.yml"), *options)
    assert "someone/wild has only pickled .bin weights" in said and "no pretrained head" not in said
    saved = last_checkpoint(workspace / "run")
    assert saved is not None
    head = load_file(saved / "heads.safetensors")["heads.guessed.dense.weight"]
    torch.testing.assert_close(head, expected, atol=1e-6, rtol=0)
    assert_predicts(workspace / "run")


def test_a_checksum_of_pickled_weights(workspace: Path) -> None:
    folder = wild_encoder(workspace / "wild")
    as_bin(folder)
    digest = hashlib.sha256((folder / "pytorch_model.bin").read_bytes()).hexdigest()
    command = ["train", str(workspace / "run.yml"), f"encoder.name={folder}", *OPTIONS]
    with pytest.raises(CommandError, match=r"pytorch_model\.bin: SHA-256 is"):
        run_command(*command, f"encoder.sha256={'f' * 64}")
    run_command(*command, f"encoder.sha256={digest}")
