"""Encoder folders as they are found on the hub: old names of weights, prefixes of task models, several files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.tiny import FAMILIES, SHAPE, tiny_tokenizer


def wild_encoder(folder: Path, family: str = "bert", *, seed: int = 0) -> Path:
    """Writes the encoder of a family as part of a masked language model, under the old names of its LayerNorms."""
    from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification

    vocabulary = tiny_tokenizer(folder)
    torch.manual_seed(seed)
    settings: dict[str, Any] = {"vocab_size": vocabulary, **SHAPE, **FAMILIES[family]}
    config = AutoConfig.for_model(family, **settings)
    kind = AutoModelForSequenceClassification if family == "electra" else AutoModelForMaskedLM
    kind.from_config(config).save_pretrained(folder)
    write_weights(folder, {old_name(name): value for name, value in weights(folder).items()})
    return folder


def old_name(name: str) -> str:
    """The name of a weight in checkpoints of the first BERT: gamma and beta of a LayerNorm."""
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of model.safetensors."""
    return load_file(folder / "model.safetensors")


def write_weights(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Writes model.safetensors."""
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def split_in_two(folder: Path) -> None:
    """Writes the weights as two files and an index, as large encoders have them."""
    tensors = weights(folder)
    names = sorted(tensors)
    files = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    where = {name: files[number >= len(names) // 2] for number, name in enumerate(names)}
    for file in files:
        save_file({name: tensors[name] for name in names if where[name] == file}, folder / file, {"format": "pt"})
    index = {"metadata": {"total_size": 0}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "model.safetensors").unlink()
