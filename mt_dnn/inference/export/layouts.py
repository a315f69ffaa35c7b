"""Where transformers' models with a head keep the weights that are above the encoder, by family.

Read off the model classes of transformers 5.17 to 5.23. Names are those of modules inside the model; ``{base}`` is its
encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Layout:
    """The layers of a model above its encoder.

    ``output``: the layer that gives logits. ``dense``: a layer below it; None: there is none. ``activation``: what
    follows ``dense``: a name, or the setting of the configuration that decides, after ``config:``. ``norm``: a
    LayerNorm after the activation, or None. ``settings``: of the configuration, which the layers need.
    """

    output: str
    dense: str | None = None
    activation: str = "tanh"
    norm: str | None = None
    settings: tuple[tuple[str, object], ...] = ()


LINEAR, SPAN = Layout("classifier"), Layout("qa_outputs")  # one layer over each token
POOLER = Layout("classifier", "{base}.pooler.dense")
PROJECTED = Layout("classifier.out_proj", "classifier.dense")
CONTEXT = Layout("classifier", "pooler.dense", "config:pooler_hidden_act")
DISTILLED = Layout("classifier", "pre_classifier", "relu")
MODERN = Layout("classifier", "head.dense", "config:classifier_activation", "head.norm")
SUMMARY = Layout(
    "classifier",
    "sequence_summary.summary",
    "config:summary_activation",
    settings=(("summary_type", "first"), ("summary_use_proj", True), ("summary_proj_to_labels", False)),
)
# Settings that no other layer of a model reads, so that an export may set them.
FREE = ("config:pooler_hidden_act", "config:classifier_activation", "config:summary_activation")

SEQUENCES: Mapping[str, Layout] = {
    "bert": POOLER,
    "roberta": PROJECTED,
    "xlm-roberta": PROJECTED,
    "xlm-roberta-xl": PROJECTED,
    "mpnet": PROJECTED,
    "electra": replace(PROJECTED, activation="gelu"),
    "deberta": CONTEXT,
    "deberta-v2": CONTEXT,
    "distilbert": DISTILLED,
    "modernbert": MODERN,
}
CHOICES: Mapping[str, Layout] = {
    "bert": POOLER,
    "roberta": POOLER,
    "xlm-roberta": POOLER,
    "xlm-roberta-xl": POOLER,
    "mpnet": POOLER,
    "electra": SUMMARY,
    "deberta-v2": CONTEXT,
    "distilbert": DISTILLED,
    "modernbert": MODERN,
}
TOKENS: Mapping[str, Layout] = {family: MODERN if family == "modernbert" else LINEAR for family in SEQUENCES}
SPANS: Mapping[str, Layout] = {family: MODERN if family == "modernbert" else SPAN for family in SEQUENCES}

BERT_WORDS = Layout(
    "cls.predictions", "cls.predictions.transform.dense", "config:hidden_act", "cls.predictions.transform.LayerNorm"
)
ROBERTA_WORDS = Layout("lm_head", "lm_head.dense", "gelu", "lm_head.layer_norm")
MODERN_WORDS = replace(MODERN, output="decoder")
WORDS: Mapping[str, Layout] = {  # the output layer has the weights of the word embeddings; only its bias is here
    "bert": BERT_WORDS,
    "roberta": ROBERTA_WORDS,
    "xlm-roberta": ROBERTA_WORDS,
    "xlm-roberta-xl": ROBERTA_WORDS,
    "mpnet": ROBERTA_WORDS,
    "electra": Layout("generator_lm_head", "generator_predictions.dense", "gelu", "generator_predictions.LayerNorm"),
    "deberta": BERT_WORDS,
    "deberta-v2": BERT_WORDS,
    "distilbert": Layout("vocab_projector", "vocab_transform", "config:activation", "vocab_layer_norm"),
    "modernbert": MODERN_WORDS,
}
