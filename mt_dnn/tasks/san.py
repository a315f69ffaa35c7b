"""The stochastic answer network, a head for pairs of texts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mt_dnn.batches.batch import Batch
from mt_dnn.encoders.dropout import Dropout
from mt_dnn.encoders.pooling import attended, initialised


class SANHead(nn.Module):
    """Stochastic answer network: K steps of reasoning over the tokens of two texts, each with a prediction.

    s_0 = Σ_j α_j h_j, α = softmax(w · h); x_k = Σ_j β_j p_j, β = softmax(p W s_k); step k predicts from
    [s_k; x_k; |s_k − x_k|; s_k · x_k]; s_{k+1} = GRU(s_k, x_k). h are the states of the second text, p the states of
    the first text, both without special tokens. The answer is the mean of the probabilities, or of the values, of all
    steps. In training, stochastic prediction dropout leaves out some steps, but never all of them (Liu, Duh & Gao 2018;
    Liu et al. 2019, section 3). In the papers x_k comes from s_{k−1}, so x_0 is undefined. Here x_k comes from s_k, as
    in MT-DNN's released code.
    """

    reads_tokens = True

    def __init__(
        self, hidden: int, outputs: int, dropout: float, std: float, *, steps: int, prediction_dropout: float
    ) -> None:
        super().__init__()
        self.steps, self.prediction_dropout = steps, prediction_dropout
        self.dropout = Dropout(dropout)
        self.summary = initialised(nn.Linear(hidden, 1), std)
        self.attention = initialised(nn.Linear(hidden, hidden), std)
        self.cell = nn.GRUCell(hidden, hidden)
        self.linear = initialised(nn.Linear(4 * hidden, outputs), std)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Final hidden states (T, H) → logarithms of the mean probabilities, (S, C). With one output: mean values."""
        states = batch.pad(self.dropout(hidden))  # (S, L, H)
        first, second = (self._tokens(batch, number) for number in (0, 1))
        state = attended(self.summary(states)[..., 0], states, second)
        answers = []
        for _ in range(self.steps):
            scores = torch.einsum("sh,slh->sl", self.attention(state), states)
            read = attended(scores, states, first)
            both = torch.cat([state, read, (state - read).abs(), state * read], dim=1)
            answers.append(self.linear(self.dropout(both)).float())
            state = self.cell(read, state).to(read.dtype)
        stacked = torch.stack(answers)  # (K, S, C)
        kept = self._kept(stacked)
        if stacked.shape[2] == 1:
            return (stacked * kept).sum(0) / kept.sum(0)
        return torch.logsumexp(stacked.log_softmax(2) + kept.log(), 0) - kept.sum(0).log()

    def _kept(self, answers: Tensor) -> Tensor:
        """(K, S, 1): 1 where the prediction of a step counts, 0 where it is left out."""
        kept = answers.new_ones(*answers.shape[:2], 1)
        if not self.training or not self.prediction_dropout:
            return kept
        steps, sequences, _ = kept.shape
        drawn = self.dropout.uniform((sequences, steps), kept.device).T[..., None]
        return ((drawn >= self.prediction_dropout) | (drawn == drawn.amax(0))).to(kept.dtype)

    def _tokens(self, batch: Batch, number: int) -> Tensor:
        """True at the tokens of text 0 or 1, (S, L). If the text is empty, True at the first token of the sequence."""
        assert batch.text_numbers is not None
        tokens = (batch.pad(batch.text_numbers.to(torch.int64) + 1) == number + 1) & batch.mask[:, 0, 0]
        tokens[:, 0] |= ~tokens.any(1)
        return tokens
