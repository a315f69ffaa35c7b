"""A linear-chain conditional random field (Lafferty et al. 2001): a label depends on the labels of neighbouring words.

p(y|x) ∝ exp(Σ_t e_t(y_t) + Σ_t A(y_{t−1}, y_t))
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def log_marginals(emissions: Tensor, transitions: Tensor, lengths: Sequence[int]) -> Tensor:
    """log p(y_t = c | x) of every word, in float32: (N, C) → (N, C).

    ``emissions``: e, the words of all sequences end to end. ``transitions``: A (C, C), from the label of a word to the
    label of the next word. ``lengths``: the number of words of each sequence. Forward and backward messages (Rabiner
    1989, section III.A) are computed in one batch, because backward messages are forward messages over the reversed
    sequences.
    """
    ahead = emissions.float().split(list(lengths))
    scores = pad_sequence([*ahead, *(words.flip(0) for words in ahead)], batch_first=True)  # (2S, W, C)
    steps = transitions.float()
    steps = torch.stack([steps, steps.T]).repeat_interleave(len(lengths), 0)  # (2S, C, C)
    messages = [scores[:, 0]]
    for word in scores.unbind(1)[1:]:
        messages.append(word + torch.logsumexp(messages[-1][:, :, None] + steps, dim=1))
    both = torch.stack(messages, dim=1)  # (2S, W, C); each message includes e_t
    forward, backward = both.chunk(2)
    joint = [
        before[:length] + after[:length].flip(0) - words
        for before, after, words, length in zip(forward, backward, ahead, lengths, strict=True)
    ]
    return torch.cat(joint).log_softmax(1)
