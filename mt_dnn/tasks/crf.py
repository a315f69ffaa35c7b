"""A linear-chain conditional random field (Lafferty et al. 2001): a label depends on the labels of neighbouring words.

p(y|x) ∝ exp(Σ_t e_t(y_t) + Σ_t A(y_{t−1}, y_t))
"""

from __future__ import annotations

import torch
from torch import Tensor


def log_marginals(emissions: Tensor, transitions: Tensor, bounds: Tensor, longest: int) -> Tensor:
    """log p(y_t = c | x) of every word, in float32: (N, C) → (N, C).

    ``emissions``: e, the words of all S sequences end to end. ``transitions``: A (C, C), from the label of a word to
    the label of the next word. ``bounds`` (S+1,): sequence i has the words ``bounds[i]:bounds[i+1]``. ``longest``: W,
    the most words of a sequence. Forward and backward messages (Rabiner 1989, section III.A) are computed in one batch,
    because backward messages are forward messages over the reversed sequences.
    """
    words, classes = emissions.shape
    numbers, lengths = torch.arange(words, device=bounds.device), bounds.diff()
    sequence = torch.arange(len(lengths), device=bounds.device).repeat_interleave(lengths, output_size=words)
    ahead = sequence * longest + numbers - bounds[sequence]  # the position of a word among S·W
    behind = sequence * longest + bounds[sequence + 1] - 1 - numbers  # the same in the reversed sequence
    scores = emissions.float()
    empty = scores.new_zeros(len(lengths) * longest, classes)
    reversed_scores, padded = empty.index_copy(0, behind, scores), empty.index_copy(0, ahead, scores)
    steps = transitions.float()
    steps = torch.stack([steps, steps.T]).repeat_interleave(len(lengths), 0)  # (2S, C, C)
    by_position = torch.cat([padded, reversed_scores]).view(-1, longest, classes).unbind(1)  # (2S, C) each
    messages = [by_position[0]]
    for word in by_position[1:]:
        messages.append(word + torch.logsumexp(messages[-1][:, :, None] + steps, dim=1))
    forward, backward = torch.stack(messages, dim=1).view(2, -1, classes)  # each message includes e_t
    joint = forward.index_select(0, ahead) + backward.index_select(0, behind) - scores
    if longest == 1:  # ranks sum the gradients of the same parameters, so a rank without neighbours has zeros
        joint = joint + 0 * transitions.sum()
    return joint.log_softmax(1)
