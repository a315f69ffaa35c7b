"""Encoder folders as they are found on the hub: old names of weights, prefixes of task models, several files."""

from __future__ import annotations

import json
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.tiny import FAMILIES, SHAPE, WORDS, tiny_tokenizer


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


def python_tokenizer(folder: Path, kind: str) -> None:
    """Puts a tokenizer that is written in Python into a folder, as PhoBERT and BERTweet have one on the hub."""
    for file in folder.glob("tokenizer*"):
        file.unlink()
    pieces = [*WORDS, *ascii_lowercase, *(f"{letter}@@" for letter in ascii_lowercase)]
    (folder / "vocab.txt").write_text("".join(f"{piece} 9\n" for piece in dict.fromkeys(pieces)), encoding="utf-8")
    merges = [merge for word in WORDS for merge in merges_of(word)]
    (folder / "bpe.codes").write_text("".join(f"{merge} 9\n" for merge in dict.fromkeys(merges)), encoding="utf-8")
    settings = {"tokenizer_class": kind}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": 1, "model_type": "roberta"}))


def merges_of(word: str) -> list[str]:
    """The merges of a byte-pair encoding that make one piece of a word, from the left."""
    letters = [*word[:-1], f"{word[-1]}</w>"]
    return [f"{''.join(letters[:number])} {letters[number]}" for number in range(1, len(letters))]


def add_tokens(folder: Path, *tokens: str) -> None:
    """Adds tokens to the tokenizer, as people do for the markers of entities. The encoder has no rows for them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.add_tokens([*tokens]) == len(tokens)
    tokenizer.save_pretrained(folder)


def on_the_hub(folder: Path, cache: Path, name: str, *, branch: str = "main", commit: str = "0123456789" * 4) -> str:
    """Moves a folder into a cache of the hub, as if it had been downloaded. Returns its name there.

    ``branch``, ``commit``: the version that the folder is.
    """
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / branch).write_text(commit)
    (repository / "snapshots").mkdir(exist_ok=True)
    folder.rename(repository / "snapshots" / commit)
    return name


def word_rows(folder: Path) -> Tensor:
    """The table of word embeddings that a folder holds, (V, H)."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder).get_input_embeddings().weight.detach()


def as_bin(folder: Path) -> None:
    """Writes the weights as pytorch_model.bin, or as two such files and an index if they are two files."""
    index = folder / "model.safetensors.index.json"
    for file in list(folder.glob("*.safetensors")):
        name = file.name.replace("model", "pytorch_model", 1).replace(".safetensors", ".bin")
        torch.save(load_file(file), folder / name)
        file.unlink()
    if index.exists():
        content = index.read_text().replace("model-", "pytorch_model-").replace(".safetensors", ".bin")
        (folder / "pytorch_model.bin.index.json").write_text(content)
        index.unlink()
