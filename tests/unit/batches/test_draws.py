"""Noise: it does not depend on how ranks divide a batch, nor do figures of it have to be read from the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mt_dnn.batches.collate import collate, share_of_rank
from mt_dnn.batches.draws import Draws
from tests.unit.batches.test_batch import split_of

LENGTHS, DECISIONS = [5, 3, 9, 1, 4], [2, 1, 3, 0, 4]


def batches(ranks: int) -> list[Any]:
    """The batches of all ranks, with several decisions in most examples."""
    bounds = np.concatenate([[0], np.cumsum(DECISIONS)])
    marked = np.zeros(sum(DECISIONS), np.int64)
    split = split_of(LENGTHS, np.zeros(sum(DECISIONS), np.int64), decisions=bounds, marked=marked)
    shares = [share_of_rank(np.array(LENGTHS), rank, ranks, 7) for rank in range(ranks)]
    return [collate(split, range(5), task="t", share=share) for share in shares]


def by_example(batch: Any, rows: torch.Tensor, counts: list[int]) -> dict[int, torch.Tensor]:
    parts = rows.split([counts[position] for position in batch.share.positions])
    return dict(zip(batch.share.positions, parts, strict=True))


@pytest.mark.parametrize("ranks", [2, 3, 5])
@pytest.mark.parametrize(("sizes", "shape"), [("tokens", (8,)), ("decisions", ())])
def test_ranks_share_one_draw_of_an_accelerator(ranks: int, sizes: str, shape: tuple[int, ...]) -> None:
    """The rows of each example are those that a single process draws for it."""
    counts = {"tokens": LENGTHS, "decisions": DECISIONS}[sizes]

    def drawn(batch: Any) -> dict[int, torch.Tensor]:
        rows = Draws(batch).of_all_ranks(getattr(batch.share, sizes), shape, torch.randn, torch.device("cpu"))
        return by_example(batch, rows, counts)

    expected = drawn(batches(1)[0])
    assert sorted(expected) == list(range(5)) and all(len(rows) == counts[i] for i, rows in expected.items())
    found = {position: rows for batch in batches(ranks) for position, rows in drawn(batch).items()}
    assert found.keys() == expected.keys() and all(found[key].equal(expected[key]) for key in expected)


def test_draws_differ() -> None:
    """One draw after the other, and one seed from the other."""
    batch = batches(1)[0]
    draws = Draws(batch)
    found = []
    for _ in range(2):
        draws.count += 1
        found.append(draws.of_all_ranks(batch.share.tokens, (8,), torch.randn, torch.device("cpu")))
    assert not found[0].equal(found[1])


def test_a_rank_without_examples_draws_the_first_one() -> None:
    batch = collate(split_of([4, 2]), range(2), task="t", share=share_of_rank(np.array([4, 2]), 2, 3, 7))
    rows = Draws(batch).of_all_ranks(batch.share.tokens, (8,), torch.randn, torch.device("cpu"))
    assert not batch.share.counts and rows.shape == (4, 8)
