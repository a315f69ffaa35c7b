"""Encoders with adapters against peft's own models, and merged encoders against plain transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel

from mt_dnn.encoders.adapters import merge_adapter, save_adapter
from mt_dnn.inference.export.forms import FORMS
from mt_dnn.inference.export.model import encoder_model, task_model, tokenizer_of
from mt_dnn.inference.trained import load
from tests.exporting import EXPORTED, assert_same_logits, padded, rows_for, run_of
from tests.parts import parts
from tests.tiny import FAMILIES, tiny_encoder

peft = pytest.importorskip("peft", reason="the extra adapters is not installed")
pytestmark = pytest.mark.usefixtures("in_float64")

DRY = ("encoder.dropout=0", "encoder.attention_dropout=0", "heads.dropout=0")
KINDS = {"lora": ("adapter.kind=lora", "adapter.rank=4"), "ia3": ("adapter.kind=ia3",)}


def moved(model: Any) -> Any:
    """The model after each of its trained weights was moved."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
    return model


def gradients(loss: Tensor, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


# transformers asks its own models for a name that it has retired.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize(
    ("family", "kind", "targets"),
    [
        *((family, kind, "default") for family in FAMILIES for kind in KINDS),
        ("bert", "lora", "all-linear"),
        ("bert", "ia3", "all-linear"),
        ("distilbert", "lora", "all-linear"),
    ],
)
def test_states_and_gradients_are_those_of_peft(family: str, kind: str, targets: str, workspace: Path) -> None:
    """All states, those of a last block that computes first tokens only, and gradients of the adapter."""
    folder = tiny_encoder(workspace / family, family)
    dry = DRY if family != "distilbert" else DRY[:1] + DRY[2:]
    chosen = () if targets == "default" else ("adapter.targets=all-linear",)
    options = (f"encoder.name={folder}", "encoder.pooler=cls", "tasks=[same]", *dry, *KINDS[kind], *chosen)
    run = parts(workspace, *options)
    encoder = moved(run.model).encoder.eval()
    save_adapter(encoder, workspace / "adapter")
    plain = AutoModel.from_pretrained(folder, dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(plain, workspace / "adapter", is_trainable=True).eval()
    batch, inputs = padded(run.train_splits["same"], range(12), "same")
    if getattr(plain.config, "type_vocab_size", 0) < 2:
        del inputs["token_type_ids"]
    expected = theirs(**inputs).last_hidden_state
    states, firsts = encoder(batch), encoder.resume_pooled(encoder.upto(0, batch), 0, batch)
    torch.testing.assert_close(states, batch.unpad(expected), atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(firsts, expected[:, 0], atol=1e-10, rtol=1e-10)
    untouched = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    assert (untouched(**inputs).last_hidden_state - expected).abs().max() > 1e-3
    ours = {name: weight for name, weight in encoder.model.named_parameters() if weight.requires_grad}
    trained = {name: weight for name, weight in theirs.named_parameters() if weight.requires_grad}
    assert {f"base_model.model.{name}" for name in ours} == set(trained) and len(ours) >= 4
    right = gradients(expected[:, 0].square().sum(), trained)
    for name, found in gradients(firsts.square().sum(), ours).items():
        torch.testing.assert_close(found, right[f"base_model.model.{name}"], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_merged_exports_have_the_logits_of_the_run(family: str, kind: str, tmp_path: Path) -> None:
    tasks = ("same", "overlap", "tagged") if kind == "ia3" else EXPORTED
    run = run_of(tmp_path, family, "encoder.pooler=family", f"tasks=[{','.join(tasks)}]", *KINDS[kind])
    model, merged = load(run), load(run)
    assert model.model.encoder.adapter is not None
    merge_adapter(merged.model.encoder)
    for task in tasks:
        built = task_model(merged, task)
        built.save_pretrained(tmp_path / task)
        tokenizer = tokenizer_of(merged, built)
        exported = FORMS[model.task(task).task_type].auto.from_pretrained(tmp_path / task).eval()
        assert_same_logits(model, exported, tokenizer, task, 1e-6)
    texts = [(row["premise"], row["hypothesis"]) for row in rows_for("same", 8)]
    assert encoder_model(merged).state_dict().keys() <= AutoModel.from_pretrained(tmp_path / family).state_dict().keys()
    assert abs(model.embed(texts) - merged.embed(texts)).max() < 1e-10
