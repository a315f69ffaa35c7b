"""Masked language modelling: the model guesses the tokens behind masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM
from transformers.activations import ACT2FN

from data_utils.encoder_names import resolve_name
from data_utils.metrics import Answers
from data_utils.prepared import Prepared
from data_utils.task_def import TaskDef
from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.encoder import Encoder
from mt_dnn.encoders.family import FamilyLayers
from mt_dnn.encoders.pooling import initialised
from mt_dnn.encoders.pretrained import NEWEST, only_bin, quiet, with_mean_rows
from mt_dnn.tasks.base import Decoded, Decoding, Kind
from mt_dnn.tasks.heads import HeadsConfig


class MaskedTokens(Decoding):
    """Predicts the most probable token behind each mask. ``details``: the right tokens of each row.

    The logits of a split, (N, V) for a vocabulary of V tokens, would fill the memory. So only three numbers of each
    decision are kept: log p of the right token, the most probable token, and the right token.
    """

    def condensed(self, logits: Tensor, batch: Batch) -> Tensor:
        assert batch.labels is not None
        right = torch.log_softmax(logits.float(), dim=1).gather(1, batch.labels[:, None])[:, 0]
        return torch.stack([right, logits.argmax(dim=1).float(), batch.labels.float()], dim=1)

    def __call__(self, task: TaskDef, owner: TaskDef, split: Prepared, outputs: Sequence[np.ndarray]) -> Decoded:
        found = np.concatenate(outputs)
        right = [output[:, 2].astype(np.int64) for output in outputs]
        return Decoded(found[:, 1].astype(np.int64), found[:, 0], right)

    def constants(self, task: TaskDef, split: Prepared) -> Iterator[Decoded]:
        """The most frequent right token. A score is the logarithm of the share of this right token among all.

        No distribution that is the same for all decisions has a lower perplexity.
        """
        gold = [self._gold(split, row) for row in range(len(split))]
        tokens, numbers, counts = np.unique(np.concatenate(gold), return_inverse=True, return_counts=True)
        frequent = np.full(len(numbers), tokens[counts.argmax()])
        yield Decoded(frequent, np.log(counts / counts.sum())[numbers], gold)

    def answers(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Answers:
        return Answers(decoded.predictions, np.concatenate(decoded.details), decoded.scores, n_class=1)

    def records(self, task: TaskDef, split: Prepared, decoded: Decoded) -> Iterator[dict[str, Any]]:
        """Yields for each row the predicted token ids, and log p of the right tokens."""
        bounds = np.cumsum([0, *map(len, decoded.details)])
        for start, stop in pairwise(bounds):
            scores = [round(float(score), 6) for score in decoded.scores[start:stop]]
            yield {"prediction": decoded.predictions[start:stop].tolist(), "scores": scores}

    def gold(self, task: TaskDef, split: Prepared) -> Iterator[Any]:
        """Yields the right token ids of each row."""
        yield from (self._gold(split, row).tolist() for row in range(len(split)))

    def read(self, task: TaskDef, records: Sequence[Mapping[str, Any]]) -> Answers:
        predictions, labels, scores = (
            np.array([value for record in records for value in record[key]]) for key in ("prediction", "gold", "scores")
        )
        bounds = np.cumsum([0, *(len(record["gold"]) for record in records)])
        return Answers(predictions, labels, scores, n_class=1, bounds=bounds)

    def _gold(self, split: Prepared, row: int) -> np.ndarray:
        """The tokens behind the masks of a row. Outside of training, a row always has the same masks."""
        positions = split.masked(row, seed=0, position=row)[0]
        return split.tokens[split.offsets[row] :][positions]


class MaskedLMHead(nn.Module):
    """The head of BERT's and RoBERTa's pre-training: dense layer, activation, LayerNorm, and a logit for each token.

    The weight of the output layer is the table of word embeddings (Devlin et al. 2019). The table belongs to the
    encoder, so it is saved and updated only there. ``activation``: its name in transformers.
    """

    reads_tokens = True

    def __init__(
        self, words: nn.Embedding, dense: nn.Linear, activation: str, norm: nn.LayerNorm, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.dense, self.activation, self.norm = dense, activation, norm
        self.bias = nn.Parameter(torch.zeros(words.num_embeddings)) if bias else None
        self._activate = ACT2FN[activation]
        self._words = (words,)  # in a tuple, so that torch does not save the table with this module too

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Final hidden states (T, H) → logits (N, V) of the N masked tokens."""
        assert batch.marked is not None
        states = self.norm(self._activate(self.dense(hidden.index_select(0, batch.marked))))
        return F.linear(states, self._words[0].weight, self.bias)


LM_HEADS = {  # model type → names of the dense layer and the LayerNorm in transformers' masked language model
    "bert": ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"),
    "roberta": ("lm_head.dense", "lm_head.layer_norm"),
    "xlm-roberta": ("lm_head.dense", "lm_head.layer_norm"),
    "modernbert": ("head.dense", "head.norm"),  # if the head has the layers of the family
}


def load_lm_head(name: str, revision: str | None, settings: Any, head: nn.Module) -> bool:
    """Loads the weights of a MaskedLMHead from a checkpoint.

    False if it has none, its model type is unknown, or the head has other layers.
    """
    assert isinstance(head, MaskedLMHead)
    family = settings.model_type
    if family not in LM_HEADS:
        return False
    with quiet():
        model, info = AutoModelForMaskedLM.from_pretrained(
            resolve_name(name),
            trust_remote_code=False,
            revision=revision or NEWEST,
            use_safetensors=not only_bin(name, revision),
            weights_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    names = LM_HEADS[family]
    if any(key.startswith(names) for key in info["missing_keys"]):
        return False
    weights = [model.get_submodule(name).state_dict() for name in names]
    if [part.keys() for part in weights] != [head.dense.state_dict().keys(), head.norm.state_dict().keys()]:
        return False
    head.dense.load_state_dict(weights[0])
    head.norm.load_state_dict(weights[1])
    if head.bias is not None:
        bias = model.get_output_embeddings().bias.detach()
        head.bias.data.copy_(with_mean_rows(bias, len(head.bias)))
    return True


def masked_lm_head(task: TaskDef, encoder: Encoder, dropout: float, config: HeadsConfig) -> nn.Module:
    settings, words = encoder.model.config, encoder.model.get_input_embeddings()
    layers = encoder.token_layers()
    if isinstance(layers, FamilyLayers):
        assert layers.norm is not None
        return MaskedLMHead(words, layers.dense, layers.activation, layers.norm, bias=settings.decoder_bias)
    dense = initialised(nn.Linear(encoder.hidden_size, words.embedding_dim), encoder.initializer_range)
    norm = nn.LayerNorm(words.embedding_dim, eps=getattr(settings, "layer_norm_eps", 1e-12))
    return MaskedLMHead(words, dense, getattr(settings, "hidden_act", "gelu"), norm)


def _vocabulary(task: TaskDef, split: Prepared) -> float:
    return split.manifest["masking"]["vocabulary"]


KINDS = {"masked_lm": Kind(masked_lm_head, MaskedTokens(), _vocabulary, load_lm_head)}
