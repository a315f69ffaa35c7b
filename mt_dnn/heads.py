"""Task heads. A head reads the final hidden states (T, H) and gives logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from transformers.activations import ACT2FN

from mt_dnn.batch import Batch
from mt_dnn.crf import log_marginals
from mt_dnn.losses import MISSING
from mt_dnn.pooling import attended
from mt_dnn.section import Section


class HeadsConfig(Section):
    """What the task heads share."""

    dropout: float = Field(0.1, ge=0, lt=1, description="dropout before a head, unless its task sets its own")
    san_steps: PositiveInt = Field(5, description="K, reasoning steps of the SAN head")
    san_prediction_dropout: float = Field(
        0.1, ge=0, lt=1, description="chance that the SAN head leaves out a step's prediction in training"
    )


class PooledHead(nn.Module):
    """Dropout and one linear layer over the pooled example, initialised as transformers' classifiers are."""

    def __init__(self, hidden: int, outputs: int, dropout: float, std: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = initialised(nn.Linear(hidden, outputs), std)

    def forward(self, hidden: Tensor, batch: Batch, pool: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """(T, H) → (S, C)."""
        return self.linear(self.dropout(pool(hidden, batch)))


class SANHead(nn.Module):
    """Stochastic answer network: K steps of reasoning over the tokens of two texts, each with a prediction.

    s_0 = Σ_j α_j h_j, α = softmax(w · h); x_k = Σ_j β_j p_j, β = softmax(p W s_k); step k predicts from
    [s_k; x_k; |s_k − x_k|; s_k · x_k]; s_{k+1} = GRU(s_k, x_k). h are the states of the second text, p of the first,
    special tokens left out. The answer is the mean of the probabilities, or values, of all steps; in training of those
    that stochastic prediction dropout leaves, at least one (Liu, Duh & Gao 2018; Liu et al. 2019, section 3).
    The papers have x_k from s_{k−1}, which leaves x_0 open; this is the order of MT-DNN's released code.
    """

    def __init__(
        self, hidden: int, outputs: int, dropout: float, std: float, *, steps: int, prediction_dropout: float
    ) -> None:
        super().__init__()
        self.steps, self.prediction_dropout = steps, prediction_dropout
        self.dropout = nn.Dropout(dropout)
        self.summary = initialised(nn.Linear(hidden, 1), std)
        self.attention = initialised(nn.Linear(hidden, hidden), std)
        self.cell = nn.GRUCell(hidden, hidden)
        self.linear = initialised(nn.Linear(4 * hidden, outputs), std)

    def forward(self, hidden: Tensor, batch: Batch, pool: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """(T, H) → (S, C): logarithms of the mean probabilities, or, with one output, mean values."""
        states = batch.pad(self.dropout(hidden))  # (S, L, H)
        premise, hypothesis = (self._tokens(batch, part) for part in (0, 1))
        state = attended(self.summary(states)[..., 0], states, hypothesis)
        answers = []
        for _ in range(self.steps):
            scores = torch.einsum("sh,slh->sl", self.attention(state), states)
            read = attended(scores, states, premise)
            both = torch.cat([state, read, (state - read).abs(), state * read], dim=1)
            answers.append(self.linear(self.dropout(both)).float())
            state = self.cell(read, state).to(read.dtype)
        stacked = torch.stack(answers)  # (K, S, C)
        kept = self._kept(stacked)
        if stacked.shape[2] == 1:
            return (stacked * kept).sum(0) / kept.sum(0)
        return torch.logsumexp(stacked.log_softmax(2) + kept.log(), 0) - kept.sum(0).log()

    def _kept(self, answers: Tensor) -> Tensor:
        """1 where a step's prediction counts, else 0, (K, S, 1)."""
        kept = answers.new_ones(*answers.shape[:2], 1)
        if not self.training or not self.prediction_dropout:
            return kept
        drawn = torch.rand_like(kept)
        return ((drawn >= self.prediction_dropout) | (drawn == drawn.amax(0))).to(kept.dtype)

    def _tokens(self, batch: Batch, part: int) -> Tensor:
        """True at the tokens of a text, (S, L); of an empty one at the first token of the sequence."""
        assert batch.parts is not None
        tokens = (batch.pad(batch.parts.to(torch.int64) + 1) == part + 1) & batch.mask[:, 0, 0]
        tokens[:, 0] |= ~tokens.any(1)
        return tokens


class ChoiceHead(PooledHead):
    """One score for each choice of an example."""

    def __init__(self, hidden: int, dropout: float, std: float) -> None:
        super().__init__(hidden, 1, dropout, std)

    def forward(self, hidden: Tensor, batch: Batch, pool: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """(T, H) → (B, C), MISSING where an example has fewer choices."""
        return batch.by_example(super().forward(hidden, batch, pool)[:, 0], MISSING)


class MultiLabelHead(PooledHead):
    """A yes or no for each class."""

    def forward(self, hidden: Tensor, batch: Batch, pool: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """(T, H) → (S·C, 2), the logit of no being 0: cross-entropy is then binary cross-entropy."""
        yes = super().forward(hidden, batch, pool).flatten()
        return torch.stack([torch.zeros_like(yes), yes], dim=1)


class TokenHead(PooledHead):
    """Classes for each token that is marked."""

    def forward(self, hidden: Tensor, batch: Batch, pool: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """(T, H) → (N, C)."""
        return self.linear(self.dropout(hidden[batch.marked]))


class CRFHead(TokenHead):
    """Classes for each token that is marked, read together with those of its neighbours.

    Logits are log p(y_t | x), so losses, divergences and soft labels are those of single words as without transitions:
    training raises the probability of each right label (Kakade, Teh & Roweis 2002), and the answer is the likeliest
    label of each word. There are no scores of a first or last label, as windows of a sentence may start anywhere.
    ``lr_factors``: a word's scores are sums over H entries that all move by lr; at that rate transitions hardly would.
    """

    def __init__(self, hidden: int, outputs: int, dropout: float, std: float) -> None:
        super().__init__(hidden, outputs, dropout, std)
        self.transitions = nn.Parameter(torch.zeros(outputs, outputs))
        self.lr_factors = {"transitions": float(hidden)}

    def forward(self, hidden: Tensor, batch: Batch, pool: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """(T, H) → (N, C): logarithms of the probabilities."""
        emissions = super().forward(hidden, batch, pool)
        return log_marginals(emissions, self.transitions, batch.decisions_each.tolist())


class SpanHead(PooledHead):
    """Where a span starts and where it ends: two distributions over the tokens of each sequence.

    Both at the first token say that there is none; outside of training ``threshold`` is taken off the sum of the two.
    """

    threshold: Tensor

    def __init__(self, hidden: int, dropout: float, std: float) -> None:
        super().__init__(hidden, 2, dropout, std)
        self.register_buffer("threshold", torch.zeros(()))

    def forward(self, hidden: Tensor, batch: Batch, pool: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """(T, H) → (2·S, L), a start and an end for each sequence; MISSING where a sequence is shorter."""
        scores = batch.pad(self.linear(self.dropout(hidden)))
        if not self.training:
            scores[:, 0] -= self.threshold / 2
        there = batch.mask[:, 0, 0, :, None]
        return scores.masked_fill(~there, MISSING).transpose(1, 2).flatten(0, 1)


class OrdinalHead(PooledHead):
    """Ordered classes: one score s and thresholds θ_1 < … < θ_{C−1}, P(y ≤ k) = σ(θ_k − s) (McCullagh 1980, section 2).

    They start where a score of 0 makes all classes equally likely.
    """

    def __init__(self, hidden: int, outputs: int, dropout: float, std: float) -> None:
        super().__init__(hidden, 1, dropout, std)
        thresholds = torch.logit(torch.arange(1, outputs) / outputs)
        self.lowest = nn.Parameter(thresholds[:1].clone())
        self.gaps = nn.Parameter(thresholds.diff().expm1().log())  # of which softplus is the distance

    def forward(self, hidden: Tensor, batch: Batch, pool: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """(T, H) → (S, C): logarithms of the probabilities.

        σ(a) − σ(b) = σ(a) σ(−b) (1 − e^(b − a)), of which no factor loses digits.
        """
        gaps = F.softplus(self.gaps.float())
        thresholds = torch.cat([self.lowest.float(), self.lowest.float() + gaps.cumsum(0)])
        above = thresholds - super().forward(hidden, batch, pool).float()  # (S, C−1)
        nothing, between = above.new_zeros(len(above), 1), torch.log(-torch.expm1(-gaps))
        upper = torch.cat([F.logsigmoid(above), nothing], dim=1)
        lower = torch.cat([nothing, F.logsigmoid(-above)], dim=1)
        return upper + lower + F.pad(between, (1, 1))


class MaskedLMHead(nn.Module):
    """The tokens behind masks: dense, activation, LayerNorm, and the word embeddings as the output layer.

    As BERT's and RoBERTa's (Devlin et al. 2019). The embeddings stay the encoder's, so they are saved once.
    """

    def __init__(self, words: nn.Embedding, hidden: int, activation: str, eps: float, std: float) -> None:
        super().__init__()
        vocabulary, size = words.weight.shape
        self.dense = initialised(nn.Linear(hidden, size), std)
        self.activation = ACT2FN[activation]
        self.norm = nn.LayerNorm(size, eps=eps)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self._words = (words,)  # in a tuple it is no part of this module

    def forward(self, hidden: Tensor, batch: Batch, pool: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """(T, H) → (N, V)."""
        states = self.norm(self.activation(self.dense(hidden[batch.marked])))
        return F.linear(states, self._words[0].weight, self.bias)


def initialised(linear: nn.Linear, std: float) -> nn.Linear:
    """The same layer with weights from N(0, std²) and, if it has one, zero bias."""
    nn.init.normal_(linear.weight, std=std)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    return linear
