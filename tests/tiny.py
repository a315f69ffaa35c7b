"""Tiny tokenizers and randomly initialised encoders, written to folders that transformers loads."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

WORDS = ["the", "a", "cat", "dog", "bird", "man", "woman", "sees", "hears", "likes", "finds", "red", "blue", "small"]
WORDS += ["old", "not", ".", ","]
PIECES = [*"abcdefghijklmnopqrstuvwxyz0123456789", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789")]

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"pad_token_id": 0, "type_vocab_size": 1},
    "xlm-roberta": {"pad_token_id": 0, "type_vocab_size": 1},
    "xlm-roberta-xl": {"pad_token_id": 0, "type_vocab_size": 1},
    "electra": {"embedding_size": 16},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "mpnet": {"pad_token_id": 0},
    "modernbert": {"pad_token_id": 0, "global_attn_every_n_layers": 2, "local_attention": 8},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
}


def tiny_tokenizer(folder: Path, *, extra_words: list[str] | None = None, without: str | None = None) -> int:
    """Writes a BERT tokenizer of the words above, letters and digits; returns the size of its vocabulary.

    ``without``: a word that is left out.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    entries = dict.fromkeys([*special, *WORDS, *PIECES, *(extra_words or [])])
    entries.pop(without or "", None)
    vocabulary = {token: i for i, token in enumerate(entries)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return len(vocabulary)


def tiny_encoder(folder: Path, family: str = "bert", *, seed: int = 0, **shape: Any) -> Path:
    """Writes a tokenizer and a randomly initialised encoder of a family; returns the folder.

    A process makes each encoder once and writes the same files again, with the same random numbers to follow.
    """
    import torch

    asked = f"{family} {seed} {shape} {FAMILIES[family]} {torch.get_default_dtype()}"
    if asked not in _made:
        with TemporaryDirectory() as made:
            _make_encoder(Path(made), family, seed, shape)
            _made[asked] = {path.name: path.read_bytes() for path in Path(made).iterdir()}, torch.get_rng_state()
    files, state = _made[asked]
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    torch.set_rng_state(state)
    return folder


_made: dict[str, tuple[dict[str, bytes], Any]] = {}


def _make_encoder(folder: Path, family: str, seed: int, shape: dict[str, Any]) -> None:
    import torch
    from transformers import AutoConfig, AutoModel

    vocabulary = tiny_tokenizer(folder)
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **{"vocab_size": vocabulary, **SHAPE, **FAMILIES[family], **shape})
    AutoModel.from_config(config).save_pretrained(folder)


CLASSES = {0: "bad", 1: "fine", 2: "good"}


def tiny_classifier(
    folder: Path, family: str = "bert", kind: str = "SequenceClassification", *, seed: int = 0, **settings: Any
) -> Path:
    """Writes a randomly initialised model of transformers with a head; returns the folder.

    ``kind``: the end of its class. ``settings``: of its config.json, for example other labels than CLASSES.
    """
    import torch
    import transformers

    shape = {"vocab_size": tiny_tokenizer(folder), **SHAPE, **FAMILIES[family], "id2label": CLASSES, **settings}
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(family, **shape, initializer_range=0.3)  # answers differ
    getattr(transformers, f"AutoModelFor{kind}").from_config(config).save_pretrained(folder)
    return folder
