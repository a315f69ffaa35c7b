"""train.init_from and train.init_heads: runs, checkpoints and files of the old MT-DNN that a new run starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel

import mt_dnn
from tests.golden.runner import CommandError, run_command
from tests.tiny import tiny_encoder, tiny_tokenizer
from tests.wild import add_tokens, old_name
from tests.workspace import make_workspace

# Nothing moves, so a run ends with the weights that it started with.
STILL = ["optimizer.lr=1e-12", "train.max_steps=1", "train.epochs=1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose ``run`` has learnt two of the tasks."""
    folder = tmp_path_factory.mktemp("trained")
    make_workspace(folder, train_rows=24, more=["tagged", "found"])
    train(folder, "run", "tasks=[same,negated]", "train.max_steps=4")
    return folder


def train(workspace: Path, output: str, *options: str) -> str:
    return run_command("train", str(workspace / "run.yml"), f"output={workspace / output}", *options)


def refused(workspace: Path, output: str, *options: str) -> str:
    """The line that the command ends with."""
    with pytest.raises(CommandError) as error:
        train(workspace, output, *options)
    assert not (workspace / output).exists()
    return str(error.value).strip().splitlines()[-1]


def heads(run: Path) -> dict[str, Tensor]:
    return load_file(run / "best" / "heads.safetensors")


def test_a_new_task_is_added_to_a_trained_run(trained: Path) -> None:
    init = [f"train.init_from={trained / 'run'}", "train.init_heads=true"]
    said = train(trained, "more", "tasks=[negated,overlap,same]", *init, *STILL)
    source = trained / "run" / "checkpoints"
    assert f"heads from {source}" in said and ": negated, same; new: overlap (no head of this name)\n" in said
    before, after = heads(trained / "run"), heads(trained / "more")
    assert {name.split(".")[1] for name in after} == {"negated", "overlap", "same"}
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-6, rtol=0)
    rows = ["the cat sees not", "a dog"]
    old, new = (mt_dnn.load(trained / run).predict("negated", rows) for run in ("run", "more"))
    assert [row["prediction"] for row in old] == [row["prediction"] for row in new]


def test_another_tokenizer_than_that_of_the_first_run_is_refused(trained: Path, tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path, without="cat")
    init = [f"train.init_from={trained / 'run'}", "tasks=[same]"]
    line = refused(trained, "none", *init, f"encoder.tokenizer={tmp_path}")
    assert "was trained with another tokenizer (it has '" in line and line.endswith("/encoder")
    train(trained, "same_tokenizer", *init, f"encoder.tokenizer={line.rpartition('=')[2]}", *STILL)


def test_tokens_may_be_added_to_the_tokenizer_of_the_first_run(trained: Path) -> None:
    folder = tiny_encoder(trained / "marked")
    add_tokens(folder, "[E]")
    options = [f"train.init_from={trained / 'run'}", f"encoder.name={folder}", "tasks=[same]", *STILL]
    assert "tokens added to the tokenizer: [E];" in train(trained, "marked_run", *options)


def test_the_head_of_masked_words_is_kept(tmp_path: Path) -> None:
    make_workspace(tmp_path, train_rows=16, more=["guessed"])
    train(tmp_path, "first", "tasks=[guessed]", "train.max_steps=2")
    init = [f"train.init_from={tmp_path / 'first'}", "train.init_heads=true"]
    said = train(tmp_path, "second", "tasks=[guessed]", *init, *STILL)
    assert "a new one is trained" not in said
    before, after = heads(tmp_path / "first"), heads(tmp_path / "second")
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, atol=1e-6, rtol=0)


def test_heads_that_do_not_fit_are_new_and_said(trained: Path) -> None:
    tasks = yaml.safe_load((trained / "tasks.yml").read_text())
    tasks["same"]["labels"] = ["same", "different"]
    tasks["same_hard"]["labels"] = ["same", "other"]
    (trained / "other.yml").write_text(yaml.safe_dump(tasks))
    init = [f"train.init_from={trained / 'run'}", "train.init_heads=true", f"task_defs={trained / 'other.yml'}"]
    said = train(trained, "swapped", "tasks=[negated,same]", *init, *STILL)
    assert ": negated; new: same (labels differs)\n" in said
    line = refused(trained, "none", "tasks=[same]", *init)
    assert "train.init_heads: no head of" in line and "same (labels differs); leave it out" in line
    assert "init_heads has no effect with 'init_from: null'" in refused(trained, "none", "train.init_heads=true")


@pytest.mark.parametrize("family", ["distilbert", "deberta-v2"])
def test_a_pooler_that_the_family_lacks_is_taken_with_the_encoder(family: str, tmp_path: Path) -> None:
    make_workspace(tmp_path, train_rows=16)
    encoder = f"encoder.name={tiny_encoder(tmp_path / 'other', family)}"
    options = [encoder, "tasks=[negated]", "encoder.scalar_mix=true"]
    train(tmp_path, "first", *options, "train.max_steps=2", "optimizer.lr=0.01")
    said = train(tmp_path, "second", *options, f"train.init_from={tmp_path / 'first'}", *STILL)
    assert "a new one is trained" not in said
    before, after = heads(tmp_path / "first"), heads(tmp_path / "second")
    names = [name for name in before if name.startswith("encoder.")]
    assert {"encoder.pooler.weight", "encoder.mix.weights"} <= {*names}
    for name in names:
        torch.testing.assert_close(after[name], before[name], atol=1e-6, rtol=0)


def old_file(workspace: Path, *, prefix: str = "", **entries: Any) -> tuple[Path, dict[str, Tensor]]:
    """A file as the old MT-DNN saves it, and the weights in it. Its training sets were mnli_matched, same and negated.

    ``prefix``: of the names in a head, where a dropout stands before the linear layer.
    """
    torch.manual_seed(5)
    encoder = AutoModel.from_pretrained(workspace / "encoder")
    state = {
        f"bert.{old_name(name)}": value + 0.1 * torch.randn_like(value) for name, value in encoder.state_dict().items()
    }
    for number, classes in enumerate((3, 2, 2)):
        state[f"scoring_list.{number}.{prefix}weight"] = torch.randn(classes, 32)
        state[f"scoring_list.{number}.{prefix}bias"] = torch.randn(classes)
    config = {"train_datasets": ["mnli_matched", "mnli_mismatched", "same", "negated"], "hidden_size": 32, "cuda": True}
    content = {"state": state, "optimizer": {"state": {}, "param_groups": []}, "config": config, **entries}
    torch.save(content, workspace / "model_2.pt")
    return workspace / "model_2.pt", state


@pytest.mark.parametrize("prefix", ["", "1."])
def test_a_file_of_the_old_mtdnn_gives_encoder_and_heads(prefix: str, tmp_path: Path) -> None:
    make_workspace(tmp_path, train_rows=16)
    file, state = old_file(tmp_path, prefix=prefix)
    options = ["tasks=[negated,same,overlap]", f"train.init_from={file}", "train.init_heads=true", *STILL]
    said = train(tmp_path, "run", *options)
    assert f"heads from {file}: negated, same; new: overlap (no head of this name)\n" in said
    after = load_file(tmp_path / "run" / "best" / "encoder" / "model.safetensors")
    for name, value in after.items():
        torch.testing.assert_close(value, state[f"bert.{old_name(name)}"], atol=1e-6, rtol=0)
    for number, task in ((1, "same"), (2, "negated")):
        for weight in ("weight", "bias"):
            head = heads(tmp_path / "run")[f"heads.{task}.linear.{weight}"]
            torch.testing.assert_close(head, state[f"scoring_list.{number}.{prefix}{weight}"], atol=1e-6, rtol=0)


def test_an_old_encoder_gives_the_logits_that_plain_transformers_gives(tmp_path: Path) -> None:
    """The whole path: BertModel's pooled output through the linear layer of the file."""
    make_workspace(tmp_path, train_rows=16)
    file, state = old_file(tmp_path)
    train(tmp_path, "run", "tasks=[same]", f"train.init_from={file}", "train.init_heads=true", *STILL)
    encoder = AutoModel.from_pretrained(tmp_path / "encoder").eval()
    encoder.load_state_dict({name: state[f"bert.{old_name(name)}"] for name in encoder.state_dict()})
    model = mt_dnn.load(tmp_path / "run")
    with torch.no_grad():
        ids = model.tokenizer("the cat", "a dog", return_tensors="pt", return_token_type_ids=True)
        pooled = encoder(**ids).pooler_output
        expected = pooled @ state["scoring_list.1.weight"].T + state["scoring_list.1.bias"]
    found = torch.from_numpy(model.logits("same", [("the cat", "a dog")])[0])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_heads_of_sequences_and_spans_fit_too(tmp_path: Path) -> None:
    make_workspace(tmp_path, train_rows=16, more=["tagged", "found"])
    file, state = old_file(tmp_path, config={"train_datasets": ["tagged", "found", "same"]})
    options = ["tasks=[tagged,found,same]", f"train.init_from={file}", "train.init_heads=true"]
    said = train(tmp_path, "run", *options, *STILL)
    assert f"heads from {file}: found, same, tagged\n" in said
    found = heads(tmp_path / "run")["heads.found.linear.weight"]
    torch.testing.assert_close(found, state["scoring_list.1.weight"], atol=1e-6, rtol=0)


class Definition:
    """Stands for the task definitions that later versions of the old MT-DNN put into their files."""


def test_what_is_no_file_of_the_old_mtdnn_is_refused(tmp_path: Path) -> None:
    make_workspace(tmp_path, train_rows=16)
    file, state = old_file(tmp_path, config={"task_def_list": [Definition()]})
    init = f"train.init_from={file}"
    assert f"{file}: damaged, or holds other Python objects than tensors" in refused(tmp_path, "run", init)
    file.write_bytes(file.read_bytes()[:500])
    assert str(file) in refused(tmp_path, "run", init)
    torch.save([1, 2], file)
    assert f"{file}: is no checkpoint of the old MT-DNN" in refused(tmp_path, "run", init)
    torch.save({"state": {"scoring_list.0.weight": torch.zeros(2, 2)}}, file)
    assert f"{file}: has no weights of an encoder" in refused(tmp_path, "run", init)
    torch.save({"state": {"bert.embeddings.word_embeddings.weight": torch.zeros(94, 32)}}, file)
    assert f"encoder '{file}': the checkpoint lacks" in refused(tmp_path, "run", init)
    torch.save({"state": {**state, "bert.embeddings.word_embeddings.weight": torch.zeros(9, 32)}}, file)
    assert f"encoder '{file}': its weights cannot be loaded" in refused(tmp_path, "run", init)
    torch.save({"state": state}, file)
    line = refused(tmp_path, "run", init, "train.init_heads=true", "tasks=[same]")
    assert f"no head of {file} fits: same (no head of this name)" in line
