"""Draws the tokens that a masked language model has to guess: all tokens of some words (Devlin et al. 2019).

15 % of a row's words are drawn, at least one word. 80 % of their tokens become the mask token, 10 % become a random
token of the vocabulary, and 10 % stay. This is the authors' whole-word masking. The words are drawn anew for each step,
as by Liu et al. 2019 (section 4.1).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

WORDS, MASK, RANDOM = 0.15, 0.8, 0.1
STREAM = 0x3A5C  # so that these random numbers differ from the random numbers of the noise


def masked(
    tokens: np.ndarray, words: np.ndarray, *, seed: int, position: int, mask_id: int, vocabulary: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the tokens to guess. Returns their positions in the row and the tokens shown there instead, both (n,).

    ``tokens``: (L,), the token ids of a row. ``words``: (L,), the number of each token's word from 0, −1 for special
    tokens. ``position``: the position of the row in its batch. The same ``seed`` and ``position`` draw the same tokens.
    """
    rng = np.random.default_rng((seed, position, STREAM))
    candidates = np.unique(words[words >= 0])
    chosen = rng.choice(candidates, max(1, round(WORDS * len(candidates))), replace=False)
    positions = np.flatnonzero(np.isin(words, chosen))
    drawn = rng.random(len(positions))
    random = rng.integers(0, vocabulary, len(positions))
    shown = np.where(drawn < MASK, mask_id, np.where(drawn < MASK + RANDOM, random, tokens[positions]))
    return positions, shown


def numbered(sequence_ids: Iterable[int | None], word_ids: Iterable[int | None]) -> np.ndarray:
    """Numbers the words of a row from 0, through both of its texts.

    ``sequence_ids`` and ``word_ids`` come from a tokenizer: for each token its text, and the number of its word in this
    text. They are None for special tokens. Returns the number of each token's word, (L,) int32, −1 for special tokens.
    """
    numbers: dict[tuple[int | None, int], int] = {}
    pairs = zip(sequence_ids, word_ids, strict=True)
    found = [-1 if word is None else numbers.setdefault((text, word), len(numbers)) for text, word in pairs]
    return np.array(found, np.int32)
