"""The conditional random field against the sum over all label sequences, written out one sequence at a time."""

from __future__ import annotations

from itertools import accumulate, pairwise, product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data_utils.features import load_tokenizer
from data_utils.prepare import prepare
from data_utils.task_def import load_task_defs
from mt_dnn.batches.collate import collate
from mt_dnn.encoders.load import load_encoder
from mt_dnn.tasks.crf import log_marginals
from mt_dnn.tasks.heads import HeadsConfig
from mt_dnn.tasks.losses import cross_entropy
from mt_dnn.tasks.model import Model
from mt_dnn.tasks.words import CRFHead, TokenHead
from tests.workspace import make_workspace


def enumerated(emissions: Tensor, transitions: Tensor) -> Tensor:
    """log p(y_t = c | x), (W, C), from the scores of all C^W label sequences."""
    words, classes = emissions.shape
    paths = list(product(range(classes), repeat=words))
    scores = []
    for path in paths:
        score = sum((emissions[t, label] for t, label in enumerate(path)), torch.zeros((), dtype=emissions.dtype))
        for before, label in pairwise(path):
            score = score + transitions[before, label]
        scores.append(score)
    shares = torch.stack(scores).softmax(0)
    return torch.stack(
        [
            torch.stack([shares[[path[t] == c for path in paths]].sum() for c in range(classes)]).log()
            for t in range(words)
        ]
    )


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("lengths", [[1], [4], [3, 1, 5, 2]])
def test_marginals_and_their_gradients_are_those_of_all_sequences(lengths: list[int]) -> None:
    torch.manual_seed(len(lengths))
    emissions = (2 * torch.randn(sum(lengths), 3)).requires_grad_()
    transitions = (2 * torch.randn(3, 3)).requires_grad_()
    labels = torch.randint(3, (sum(lengths),))
    ours = log_marginals(emissions, transitions, torch.tensor([0, *accumulate(lengths)]), max(lengths))
    theirs = torch.cat([enumerated(own, transitions) for own in emissions.split(lengths)])
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)
    losses = cross_entropy(ours, labels), torch.nn.functional.nll_loss(theirs, labels)
    gradients = [torch.autograd.grad(loss, [emissions, transitions], allow_unused=True) for loss in losses]
    for found, expected in zip(*gradients, strict=True):
        expected = torch.zeros(3, 3) if expected is None else expected  # single words have no transitions
        assert found is not None  # ranks sum the gradients of the same parameters
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


def test_long_sequences_and_large_scores_stay_finite() -> None:
    torch.manual_seed(0)
    emissions = (100 * torch.randn(500, 4)).requires_grad_()
    transitions = (100 * torch.randn(4, 4)).requires_grad_()
    ours = log_marginals(emissions, transitions, torch.tensor([0, 400, 500]), 400)
    torch.testing.assert_close(ours.logsumexp(1), torch.zeros(500), atol=1e-4, rtol=0)
    for gradient in torch.autograd.grad(cross_entropy(ours, torch.randint(4, (500,))), [emissions, transitions]):
        assert gradient.isfinite().all() and gradient.any()


@pytest.mark.usefixtures("in_float64")
def test_the_head_is_that_of_single_words_until_transitions_are_learnt(tmp_path: Path) -> None:
    """Then a sentence's words depend on each other, and on no other sentence of the batch."""
    make_workspace(tmp_path, more=["chained"])
    task, tokenizer = load_task_defs(tmp_path / "tasks.yml")["chained"], load_tokenizer(str(tmp_path / "encoder"))
    options: dict[str, Any] = {"data_dir": tmp_path / "data", "cache_dir": tmp_path / "cache", "max_length": 8}
    split = prepare(task, "dev", tokenizer=tokenizer, stride=2, **options)
    assert len(split) > len(split.firsts)  # windows of long sentences are sequences of their own
    encoder = load_encoder(name=str(tmp_path / "encoder"))
    model = Model(encoder, {"chained": task}, {"chained": task}, HeadsConfig()).eval()
    head = model.heads["chained"]
    assert isinstance(head, CRFHead)
    batch = collate(split, [0, 3, 5], task="chained")
    hidden = encoder(batch)
    plain = TokenHead.forward(head, hidden, batch)
    torch.testing.assert_close(head(hidden, batch), plain.log_softmax(1), atol=1e-10, rtol=1e-10)
    torch.nn.init.normal_(head.transitions)
    expected = [enumerated(own, head.transitions) for own in plain.split(batch.decisions_each.tolist())]
    torch.testing.assert_close(head(hidden, batch), torch.cat(expected), atol=1e-10, rtol=1e-10)
    copies = model.resume(torch.cat([encoder.upto(0, batch)] * 2), 0, batch.repeated(2))
    torch.testing.assert_close(copies, torch.cat([*expected, *expected]), atol=1e-10, rtol=1e-10)
