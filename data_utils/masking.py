"""Which tokens a masked language model has to guess: whole words, drawn anew for each step (Devlin et al. 2019).

15 % of a row's words, at least one; of their tokens 80 % become the mask token, 10 % any token of the vocabulary, the
others stay. Drawn words are those of the authors' whole-word masking, drawn anew as by Liu et al. 2019 (section 4.1).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

WORDS, MASK, RANDOM = 0.15, 0.8, 0.1
STREAM = 0x3A5C  # of random numbers; noise has others


def masked(
    tokens: np.ndarray, words: np.ndarray, *, seed: int, position: int, mask_id: int, vocabulary: int
) -> tuple[np.ndarray, np.ndarray]:
    """Places of the tokens to guess and what stands there instead, both (n,), a function of seed and place.

    ``tokens`` (L,) of a row, ``words`` (L,): the number of each token's word from 0, −1 for special tokens.
    """
    rng = np.random.default_rng((seed, position, STREAM))
    there = np.unique(words[words >= 0])
    chosen = rng.choice(there, max(1, round(WORDS * len(there))), replace=False)
    positions = np.flatnonzero(np.isin(words, chosen))
    drawn = rng.random(len(positions))
    random = rng.integers(0, vocabulary, len(positions))
    shown = np.where(drawn < MASK, mask_id, np.where(drawn < MASK + RANDOM, random, tokens[positions]))
    return positions, shown


def numbered(sequence_ids: Iterable[int | None], word_ids: Iterable[int | None]) -> np.ndarray:
    """The number of each token's word, counted through both texts of a row, (L,) int32; −1 for special tokens."""
    numbers: dict[tuple[int | None, int], int] = {}
    pairs = zip(sequence_ids, word_ids, strict=True)
    found = [-1 if word is None else numbers.setdefault((text, word), len(numbers)) for text, word in pairs]
    return np.array(found, np.int32)
