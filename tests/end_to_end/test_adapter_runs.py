"""Runs that train an adapter: what changes, what is saved, and what a resumed run and a loaded one give."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import mt_dnn
from data_utils.errors import UserError
from mt_dnn.inference.export.write import export
from mt_dnn.runs.checkpoints import last_checkpoint
from mt_dnn.runs.config_file import load_config
from mt_dnn.runs.run import Run
from tests.double import in_double_precision
from tests.exporting import rows_for

pytest.importorskip("peft", reason="the extra adapters is not installed")

TIMINGS = {"examples_per_s", "tokens_per_s"}
LORA = ("adapter.kind=lora", "adapter.dropout=0.2", "optimizer.lr=0.01", "train.epochs=2", "train.max_steps=10")
MODES = {
    "none": (),
    "vat": ("adversary=preset:vat/smart",),  # with averaged weights
    "tat": (),
    "freelb": (),
    "rapt": ("adversary.max_layer=2",),
    "rdrop": (),
}


def run_of(folder: Path, output: str, *options: str, stopped: bool = False) -> Run:
    """A run that was trained. ``stopped``: only up to its first evaluation."""
    settings = ["tasks=[same]", f"output={folder / output}", "evaluation.every_steps=5", *options]
    run = Run(load_config(folder / "run.yml", settings), shown=False, hopeless=lambda *_: stopped)
    assert isinstance(run(), int) == stopped
    return run


def tensors(folder: Path) -> dict[str, Any]:
    return {str(path.relative_to(folder)): load_file(path) for path in folder.rglob("*.safetensors")}


def assert_same(first: Path, second: Path) -> None:
    found, expected = tensors(first), tensors(second)
    assert found.keys() == expected.keys()
    for file, weights in expected.items():
        assert found[file].keys() == weights.keys()
        assert all(found[file][name].equal(weights[name]) for name in weights), file


def records(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMINGS} for line in lines]


@pytest.mark.parametrize("mode", MODES)
def test_only_the_adapter_is_trained_and_a_run_resumes_bit_identically(mode: str, workspace: Path) -> None:
    options = (f"adversary.mode={mode}" if not MODES[mode] or mode == "rapt" else "seed=1", *MODES[mode], *LORA)
    with in_double_precision():
        whole = run_of(workspace, "whole", *options)
        run_of(workspace, "cut", *options, stopped=True)
        run_of(workspace, "cut", *options)
    assert_same(workspace / "cut", workspace / "whole")
    assert records(workspace / "cut") == records(workspace / "whole")
    # The encoder below the adapter is bit for bit what it was before 10 updates, in memory and in the run folder.
    before, base = (
        load_file(folder / "model.safetensors") for folder in (workspace / "encoder", whole.folder / "base")
    )
    assert base.keys() == before.keys() and all(base[name].equal(before[name].double()) for name in before)
    state = whole.parts.model.encoder.model.state_dict()
    assert all(
        (
            state[name]
            if name in state
            else state[name.replace(".weight", ".base_layer.weight").replace(".bias", ".base_layer.bias")]
        ).equal(base[name])
        for name in base
    )
    checkpoint = last_checkpoint(whole.folder)
    assert checkpoint is not None
    adapter = load_file(checkpoint / "adapter" / "adapter_model.safetensors")
    assert all(value.abs().max() > 0 for value in adapter.values()) and len(adapter) == 8  # B was 0
    saved = load_file(checkpoint / "trainer" / "optimizer.safetensors")
    assert not any("base_layer" in name or "embeddings" in name for name in saved)
    if mode == "vat":
        average = load_file(checkpoint / "trainer" / "average.safetensors")
        assert {name for name in average if ".model." in name} == {
            name for name in whole.parts.model.state_dict() if ".lora_" in name
        }


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # transformers asks its own models
def test_a_trained_run_gives_the_same_answers_wherever_it_is_used(workspace: Path) -> None:
    run = run_of(workspace, "run", "encoder.pooler=fresh", *LORA)
    summary = json.loads((run.folder / "summary.json").read_text())
    model = mt_dnn.load(run.folder)
    assert model.evaluate(split="dev").results == [r for r in summary["results"] if r["split"] == "dev"]
    rows = rows_for("same", 12)
    expected = [row["scores"]["same"] for row in model.predict("same", rows)]
    texts = [tuple(row.values()) for row in rows]
    # In 8 bits the adapter is part of the weights.
    assert [row["scores"]["same"] for row in mt_dnn.load(run.folder, precision="int8").predict("same", rows)] == (
        pytest.approx(expected, abs=0.05)
    )
    # A merged export is a plain model; ``load`` reads it.
    export(run.folder, workspace / "merged", merge=True)
    merged = mt_dnn.load(workspace / "merged")
    assert [row["scores"]["same"] for row in merged.predict("same_pair", rows)] == pytest.approx(expected, abs=1e-5)
    assert "lora" in (workspace / "merged" / "README.md").read_text()
    # The adapter by itself, on the encoder that it was trained on.
    from peft import PeftModel
    from transformers import AutoModel, AutoTokenizer

    export(run.folder, workspace / "alone", encoder_only=True)
    plain = AutoModel.from_pretrained(workspace / "encoder")
    theirs = PeftModel.from_pretrained(plain, workspace / "alone").eval()
    inputs = AutoTokenizer.from_pretrained(workspace / "alone")(*texts[0], return_tensors="pt")
    with torch.no_grad():
        state = theirs(**inputs).last_hidden_state[0].mean(0)
    assert state.tolist() == pytest.approx(model.embed(texts)[0].tolist(), abs=1e-5)
    # A copy of the run folder with the best checkpoint alone.
    copied = workspace / "copied"
    shutil.copytree(run.folder / "base", copied / "base")
    shutil.copytree((run.folder / "best").resolve(), copied / "best")
    assert [row["scores"]["same"] for row in mt_dnn.load(copied).predict("same", rows)] == expected


def test_what_cannot_be_done_with_an_adapter_is_refused(workspace: Path) -> None:
    run = run_of(workspace, "run", "adapter.kind=ia3", "train.max_steps=5")
    plain = run_of(workspace, "plain", "train.max_steps=5")

    def refused(message: str, **options: Any) -> None:
        with pytest.raises(UserError, match=message):
            export(options.pop("run", run.folder), workspace / "out", **options)
        assert not (workspace / "out").exists()

    refused("has an adapter; add --merge")
    refused("has an adapter; add --merge", target="onnx")
    refused("has an adapter; add --merge", target="sentence-transformers", encoder_only=True)
    refused("--merge: .* has no adapter", run=plain.folder, merge=True)
    with pytest.raises(UserError, match=r"train.init_from: .* has an adapter; write its encoder with mt-dnn export"):
        run_of(workspace, "next", f"train.init_from={run.folder}")
    with pytest.raises(UserError, match="fsdp cannot split an encoder with an adapter; use ddp"):
        run_of(workspace, "next", "adapter.kind=lora", "distributed.strategy=fsdp")
    # An adapter on the encoder of another run.
    started = run_of(workspace, "next", "adapter.kind=ia3", f"train.init_from={plain.folder}", "train.max_steps=5")
    checkpoint = last_checkpoint(plain.folder)
    assert checkpoint is not None
    expected = load_file(checkpoint / "encoder" / "model.safetensors")
    found = load_file(started.folder / "base" / "model.safetensors")
    assert found.keys() == expected.keys() and all(found[name].equal(expected[name]) for name in found)
    # Without the encoder below it, an adapter is nothing.
    shutil.rmtree(run.folder / "base")
    with pytest.raises(UserError, match="holds an adapter, and the encoder below it is missing; put the folder base"):
        mt_dnn.load(run.folder)
